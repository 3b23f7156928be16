#include "tests/support/packed.h"

#include <glog/logging.h>
#include <zlib.h>
#include <zstd.h>

namespace unipool::testing {

std::string Gzip(const std::string& text) {
  constexpr int kGzip = 16 + MAX_WBITS;
  z_stream stream{};
  CHECK_EQ(deflateInit2(&stream, 6, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  CHECK_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string Zstd(const std::string& text) {
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  const size_t bytes =
      ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size());
  CHECK(ZSTD_isError(bytes) == 0) << ZSTD_getErrorName(bytes);
  packed.resize(bytes);
  ZSTD_freeCCtx(context);
  return packed;
}

}  // namespace unipool::testing
