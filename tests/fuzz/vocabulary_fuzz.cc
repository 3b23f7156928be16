// Fuzzes the two files of a tokenizer: vocab.json and merges.txt, separated by a zero byte. If they
// open, every byte must have an id.
#include <algorithm>

#include "data/bpe_vocabulary.h"
#include "tests/fuzz/fuzz_target.h"

using unipool::testing::FuzzFile;
using unipool::testing::Require;
using unipool::testing::RequireShortLine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzFile vocab(".json");
  static const FuzzFile merges(".txt");
  const uint8_t* const end = data + size;
  const uint8_t* const middle = std::find(data, end, 0);
  vocab.Fill(data, static_cast<size_t>(middle - data));
  const uint8_t* const second = middle == end ? end : middle + 1;
  merges.Fill(second, static_cast<size_t>(end - second));
  const auto read = unipool::BpeVocabulary::Read(vocab.path(), merges.path());
  if (!read.ok()) {
    RequireShortLine(std::string(read.status().message()));
    return 0;
  }
  const unipool::BpeVocabulary& vocabulary = **read;
  for (int byte = 0; byte < 256; ++byte) {
    const int32_t id = vocabulary.OfByte(static_cast<uint8_t>(byte));
    Require(0 <= id && id < vocabulary.size(), "every byte has an id");
    Require(vocabulary.Bytes(id) == std::string(1, static_cast<char>(byte)),
            "the id of a byte stands for that byte");
  }
  return 0;
}
