#include <cblas.h>
#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/blas.h"
#include "runtime/clock.h"
#include "runtime/median.h"

namespace unipool {
namespace {

// The library's default is one thread per core, which would compete with UniPool's threads.
void UseOneThreadByDefault() {
  [[maybe_unused]] static const bool done = (openblas_set_num_threads(1), true);
}

blasint BlasInt(int64_t size) {
  DCHECK_LE(size, std::numeric_limits<blasint>::max());
  return static_cast<blasint>(size);
}

CBLAS_TRANSPOSE Transpose(bool transposed) { return transposed ? CblasTrans : CblasNoTrans; }

void ClearRows(const Sgemm& product) {
  for (int64_t row = 0; row < product.m; ++row) {
    std::fill_n(product.c + row * product.c_stride, product.n, 0.0f);
  }
}

}  // namespace

void RunSgemm(const Sgemm& product) {
  if (product.m == 0 || product.n == 0) return;
  if (product.k == 0) {
    if (!product.accumulate) ClearRows(product);
    return;
  }
  UseOneThreadByDefault();
  cblas_sgemm(CblasRowMajor, Transpose(product.a.transposed), Transpose(product.b.transposed),
              BlasInt(product.m), BlasInt(product.n), BlasInt(product.k), product.scale,
              product.a.data, BlasInt(product.a.stride), product.b.data, BlasInt(product.b.stride),
              product.accumulate ? 1.0f : 0.0f, product.c, BlasInt(product.c_stride));
}

void SetBlasThreads(int threads) {
  CHECK_GE(threads, 1);
  UseOneThreadByDefault();
  openblas_set_num_threads(threads);
}

double MeasureSgemmFlops(int threads, int64_t size) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRuns = 7;
  CHECK_GE(size, 1);
  const size_t elements = static_cast<size_t>(size) * static_cast<size_t>(size);
  const std::vector<float> a(elements, 0.5f), b(elements, 0.25f);
  std::vector<float> c(elements);
  const Sgemm product{.m = size,
                      .n = size,
                      .k = size,
                      .a = {a.data(), size},
                      .b = {b.data(), size},
                      .c = c.data(),
                      .c_stride = size};
  SetBlasThreads(threads);
  RunSgemm(product);
  std::vector<double> seconds(kRuns);
  for (double& run : seconds) {
    const Clock::time_point start = Clock::now();
    RunSgemm(product);
    run = SecondsSince(start);
  }
  SetBlasThreads(1);
  const double side = static_cast<double>(size);
  return 2 * side * side * side / Median(seconds);
}

LibraryVersion BlasVersion() {
  const absl::string_view built = OPENBLAS_VERSION;
  const absl::string_view found = openblas_get_config();
  return {.built = std::string(absl::StripAsciiWhitespace(built)),
          .found = absl::StrCat(absl::StripAsciiWhitespace(found), ", kernels for ",
                                openblas_get_corename())};
}

}  // namespace unipool
