// Compresses text in the formats of data files.
#pragma once

#include <string>

namespace unipool::testing {

std::string Gzip(const std::string& text);
std::string Zstd(const std::string& text);  // with a checksum

}  // namespace unipool::testing
