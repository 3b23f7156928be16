// Macros for absl::Status: return early on an error, or unwrap a StatusOr. Errors caused by the
// environment (files, configs, devices) are returned as absl::Status; programming errors are
// CHECKs.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RETURN_IF_ERROR(expression)                                  \
  do {                                                               \
    absl::Status return_if_error_status = (expression);              \
    if (!return_if_error_status.ok()) return return_if_error_status; \
  } while (false)

#define UNIPOOL_CONCAT_INNER(a, b) a##b
#define UNIPOOL_CONCAT(a, b) UNIPOOL_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(left, expression) \
  UNIPOOL_ASSIGN_OR_RETURN(UNIPOOL_CONCAT(status_or_, __LINE__), left, expression)
#define UNIPOOL_ASSIGN_OR_RETURN(holder, left, expression) \
  auto holder = (expression);                              \
  if (!holder.ok()) return holder.status();                \
  left = std::move(holder).value()
