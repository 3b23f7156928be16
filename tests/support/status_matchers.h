// EXPECT_OK(status), ASSERT_OK(status), and EXPECT_STATUS(status, code, part of the message).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace unipool::testing {

inline absl::Status StatusOf(const absl::Status& status) { return status; }
template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

}  // namespace unipool::testing

#define EXPECT_OK(expression) EXPECT_EQ(::unipool::testing::StatusOf(expression).ToString(), "OK")
#define ASSERT_OK(expression) ASSERT_EQ(::unipool::testing::StatusOf(expression).ToString(), "OK")
// Expects a status with this code and a message that contains `text`.
#define EXPECT_STATUS(expression, expected_code, text)                             \
  do {                                                                             \
    const absl::Status seen_status = ::unipool::testing::StatusOf(expression);     \
    EXPECT_EQ(seen_status.code(), absl::StatusCode::expected_code) << seen_status; \
    EXPECT_THAT(std::string(seen_status.message()), ::testing::HasSubstr(text));   \
  } while (false)
