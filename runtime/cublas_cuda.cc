#include "runtime/cublas_cuda.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <map>

#include "absl/strings/str_cat.h"
#include "runtime/check_cuda.h"
#include "runtime/stream_cuda.h"

namespace unipool {
namespace {

// The functions of the library that are used, loaded by name.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtGetStatusString) status_string;
};

template <typename Function>
void Load(void* handle, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(handle, name));
  CHECK(*function != nullptr) << "libcublasLt has no function " << name << "; install version "
                              << CUBLAS_VER_MAJOR << " of cuBLAS";
}

Library LoadLibrary() {
  const std::string name = absl::StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR);
  void* handle = nullptr;
  for (const char* folder : {"", "/usr/local/cuda/lib64/"}) {
    if (handle == nullptr) handle = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  CHECK(handle != nullptr) << "cannot load " << name
                           << ", which matrix products on a GPU need: " << dlerror()
                           << "; install cuBLAS or add its folder to LD_LIBRARY_PATH";
  Library library;
  Load(handle, "cublasLtCreate", &library.create);
  Load(handle, "cublasLtDestroy", &library.destroy);
  Load(handle, "cublasLtMatmulDescCreate", &library.desc_create);
  Load(handle, "cublasLtMatmulDescDestroy", &library.desc_destroy);
  Load(handle, "cublasLtMatmulDescSetAttribute", &library.desc_set);
  Load(handle, "cublasLtMatrixLayoutCreate", &library.layout_create);
  Load(handle, "cublasLtMatrixLayoutDestroy", &library.layout_destroy);
  Load(handle, "cublasLtMatmulPreferenceCreate", &library.preference_create);
  Load(handle, "cublasLtMatmulPreferenceDestroy", &library.preference_destroy);
  Load(handle, "cublasLtMatmulPreferenceSetAttribute", &library.preference_set);
  Load(handle, "cublasLtMatmulAlgoGetHeuristic", &library.heuristic);
  Load(handle, "cublasLtMatmul", &library.matmul);
  Load(handle, "cublasLtGetStatusString", &library.status_string);
  return library;
}

const Library& Lt() {
  static const Library library = LoadLibrary();
  return library;
}

#define CUBLAS_CHECK(expression)                                                 \
  do {                                                                           \
    const cublasStatus_t cublas_code = (expression);                             \
    if (cublas_code != CUBLAS_STATUS_SUCCESS) {                                  \
      GpuFail(#expression, __FILE__, __LINE__, Lt().status_string(cublas_code)); \
    }                                                                            \
  } while (false)

cudaDataType_t TypeOf(DType dtype) {
  CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16) << Name(dtype);
  return dtype == DType::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

// The library's matrices are column-major, so it computes c^T = op(b)^T op(a)^T: a row-major matrix
// in memory is its transpose to the library.
struct Plan {
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t left, right, result;
  cublasLtMatmulAlgo_t algo;
};

// All properties of a product that its plan depends on.
using Key = std::array<int64_t, 15>;

// Largest power of two, up to 256, that divides the address. The library selects faster algorithms
// for larger alignments.
int64_t AlignmentOf(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data) | 256;
  return static_cast<int64_t>(address & (~address + 1));
}

Key KeyOf(const DenseGemm& product) {
  return {product.m,
          product.n,
          product.k,
          product.a.stride,
          product.b.stride,
          product.c_stride,
          product.a.transposed,
          product.b.transposed,
          product.accumulate,
          static_cast<int64_t>(product.in),
          static_cast<int64_t>(product.out),
          AlignmentOf(product.a.data),
          AlignmentOf(product.b.data),
          AlignmentOf(product.base),
          AlignmentOf(product.c)};
}

cublasLtMatrixLayout_t LayoutOf(DType dtype, int64_t rows, int64_t columns, int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  CUBLAS_CHECK(Lt().layout_create(&layout, TypeOf(dtype), static_cast<uint64_t>(rows),
                                  static_cast<uint64_t>(columns), stride));
  return layout;
}

cublasLtMatrixLayout_t OperandLayout(DType dtype, const DenseGemm::Operand& operand, int64_t rows,
                                     int64_t columns) {
  if (operand.transposed) std::swap(rows, columns);
  return LayoutOf(dtype, columns, rows, operand.stride);
}

void SetTranspose(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t which,
                  bool transposed) {
  const cublasOperation_t operation = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  CUBLAS_CHECK(Lt().desc_set(desc, which, &operation, sizeof(operation)));
}

cublasLtMatmulAlgo_t ChooseAlgo(cublasLtHandle_t handle, const Plan& plan,
                                const DenseGemm& product) {
  cublasLtMatmulPreference_t preference = nullptr;
  CUBLAS_CHECK(Lt().preference_create(&preference));
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t which, const auto& value) {
    CUBLAS_CHECK(Lt().preference_set(preference, which, &value, sizeof(value)));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kScratchBytes});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
      static_cast<uint32_t>(AlignmentOf(product.b.data)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
      static_cast<uint32_t>(AlignmentOf(product.a.data)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(AlignmentOf(product.base)));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(AlignmentOf(product.c)));
  cublasLtMatmulHeuristicResult_t found = {};
  int num_found = 0;
  CUBLAS_CHECK(Lt().heuristic(handle, plan.desc, plan.left, plan.right, plan.result, plan.result,
                              preference, 1, &found, &num_found));
  CHECK_EQ(num_found, 1) << "cuBLAS has no algorithm for " << product.m << " x " << product.k
                         << " x " << product.n;
  CUBLAS_CHECK(Lt().preference_destroy(preference));
  return found.algo;
}

Plan MakePlan(cublasLtHandle_t handle, const DenseGemm& product) {
  Plan plan;
  CUBLAS_CHECK(Lt().desc_create(&plan.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  SetTranspose(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, product.b.transposed);
  SetTranspose(plan.desc, CUBLASLT_MATMUL_DESC_TRANSB, product.a.transposed);
  plan.left = OperandLayout(product.in, product.b, product.k, product.n);
  plan.right = OperandLayout(product.in, product.a, product.m, product.k);
  plan.result = LayoutOf(product.out, product.n, product.m, product.c_stride);
  plan.algo = ChooseAlgo(handle, plan, product);
  return plan;
}

}  // namespace

class GemmPlans {
 public:
  GemmPlans() { CUBLAS_CHECK(Lt().create(&handle_)); }
  ~GemmPlans() {
    for (const auto& [key, plan] : plans_) {
      CUBLAS_CHECK(Lt().layout_destroy(plan.left));
      CUBLAS_CHECK(Lt().layout_destroy(plan.right));
      CUBLAS_CHECK(Lt().layout_destroy(plan.result));
      CUBLAS_CHECK(Lt().desc_destroy(plan.desc));
    }
    CUBLAS_CHECK(Lt().destroy(handle_));
  }
  GemmPlans(const GemmPlans&) = delete;
  GemmPlans& operator=(const GemmPlans&) = delete;

  void Run(const DenseGemm& product, Stream& stream) {
    auto found = plans_.find(KeyOf(product));
    if (found == plans_.end()) {
      found = plans_.emplace(KeyOf(product), MakePlan(handle_, product)).first;
    }
    const Plan& plan = found->second;
    const float one = 1, beta = product.accumulate ? 1 : 0;
    const Scratch scratch = ScratchOf(stream);
    CUBLAS_CHECK(Lt().matmul(handle_, plan.desc, &one, product.b.data, plan.left, product.a.data,
                             plan.right, &beta, product.base, plan.result, product.c, plan.result,
                             &plan.algo, scratch.data, scratch.bytes, CudaStream(stream)));
  }

 private:
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

void DeleteGemmPlans::operator()(GemmPlans* plans) const { delete plans; }

GemmPlansPointer NewGemmPlans() { return GemmPlansPointer(new GemmPlans); }

void RunDenseGemm(const DenseGemm& product, Stream& stream) {
  CHECK(product.in == DType::kBFloat16 || product.out == DType::kFloat32)
      << Name(product.in) << " to " << Name(product.out);
  if (product.m == 0 || product.n == 0) return;
  if (product.k == 0) {
    const size_t element = SizeOf(product.out);
    const size_t stride = static_cast<size_t>(product.c_stride) * element;
    const size_t width = static_cast<size_t>(product.n) * element;
    const auto height = static_cast<size_t>(product.m);
    if (!product.accumulate) {
      CUDA_CHECK(cudaMemset2DAsync(product.c, stride, 0, width, height, CudaStream(stream)));
    } else if (product.base != product.c) {
      CUDA_CHECK(cudaMemcpy2DAsync(product.c, stride, product.base, stride, width, height,
                                   cudaMemcpyDeviceToDevice, CudaStream(stream)));
    }
    return;
  }
  PlansOf(stream).Run(product, stream);
}

}  // namespace unipool
