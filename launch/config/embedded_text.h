// Files of configs/ that the program contains, so that it can print them without the source tree.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace unipool {

struct EmbeddedText {
  absl::string_view name;  // of the file, such as "run.proto"
  absl::string_view text;
};

// Written by tools/embed_text.cmake.
absl::Span<const EmbeddedText> EmbeddedTexts();
// A google::protobuf::FileDescriptorSet of run.proto, with its comments.
absl::string_view ConfigDescriptors();

}  // namespace unipool
