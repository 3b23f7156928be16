#include "tests/runtime/cuda/kernels_cuda.h"

#include <memory>

#include "runtime/kernel_cuda.h"
#include "runtime/ops/wgmma_tile_cuda.h"

namespace unipool::testing {
namespace {

// Device memory with the contents of a host array.
template <typename T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : size_(values.size()) {
    CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()));
    CUDA_CHECK(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* data() const { return data_; }
  std::vector<T> Read() const {
    std::vector<T> values(size_);
    CUDA_CHECK(cudaDeviceSynchronize());
    CUDA_CHECK(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t bytes() const { return size_ * sizeof(T); }
  size_t size_;
  T* data_ = nullptr;
};

__global__ void MmaKernel(const uint32_t* a, const uint32_t* b, float* d) {
  __shared__ __align__(16) uint32_t a_tile[16 * 8];
  __shared__ __align__(16) uint32_t b_tile[8 * 8];
  const int lane = LaneId();
  for (int i = lane; i < 16 * 8; i += kWarp) a_tile[i] = a[i];
  for (int i = lane; i < 8 * 8; i += kWarp) b_tile[i] = b[i];
  __syncwarp();
  uint32_t a_fragment[4], b_fragment[2];
  LoadMatrix4(a_fragment, a_tile + (lane % 16) * 8 + lane / 16 * 4);
  LoadMatrix2(b_fragment, b_tile + (lane % 8) * 8 + lane / 8 % 2 * 4);
  float* rows[2] = {d + lane / 4 * 8 + lane % 4 * 2, d + (lane / 4 + 8) * 8 + lane % 4 * 2};
  float sums[4] = {rows[0][0], rows[0][1], rows[1][0], rows[1][1]};
  MmaBf16M16N8K16(sums, a_fragment, b_fragment);
  for (int i = 0; i < 4; ++i) rows[i / 2][i % 2] = sums[i];
}

__global__ void LoadMatrixKernel(const uint32_t* matrices, int count, bool transposed,
                                 uint32_t* out) {
  __shared__ __align__(16) uint32_t tile[4 * 8 * 4];
  const int lane = LaneId();
  for (int i = lane; i < count * 32; i += kWarp) tile[i] = matrices[i];
  __syncwarp();
  uint32_t mine[4];
  const uint32_t* row = tile + (count == 4 ? lane : lane % 16) * 4;
  if (count == 4 && transposed) LoadMatrix4Transposed(mine, row);
  if (count == 4 && !transposed) LoadMatrix4(mine, row);
  if (count == 2 && transposed) LoadMatrix2Transposed(mine, row);
  if (count == 2 && !transposed) LoadMatrix2(mine, row);
  for (int i = 0; i < count; ++i) out[lane * count + i] = mine[i];
}

// One warp: each lane copies block `lane`, then block `32 + lane`, and writes what lane + 1 copied.
__global__ void CopyAsyncKernel(const uint32_t* from, int valid_blocks, uint32_t* to) {
  uint32_t* shared = DynamicShared<uint32_t>();
  const int lane = LaneId(), next = (lane + 1) % kWarp;
  for (int half = 0; half < 2; ++half) {
    const int block = half * kWarp + lane;
    CopyAsync16(shared + block * 4, from + block * 4, block < valid_blocks);
    CommitCopies();
  }
  WaitCopies<1>();
  __syncwarp();
  for (int i = 0; i < 4; ++i) to[next * 4 + i] = shared[next * 4 + i];
  WaitCopies<0>();
  __syncwarp();
  for (int i = 0; i < 4; ++i) to[(kWarp + next) * 4 + i] = shared[(kWarp + next) * 4 + i];
}

// Copies a row-major matrix of 16-byte chunks into the layout of the tile.
template <int kColumns, int kRows>
__device__ void FillTile(const uint4* from, Bf16* to) {
  constexpr int kChunks = kColumns / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunks; i += 128) {
    *reinterpret_cast<uint4*>(SharedTile<kColumns, kRows>{to}.Chunk(i / kChunks, i % kChunks)) =
        from[i];
  }
}

// One stage of a product of one warpgroup.
template <int kColumns, bool kAAlongRows, bool kBAlongRows>
__global__ void WgmmaKernel(const uint4* a, const uint4* b, float* d) {
  using Shape = WgmmaShape<64, kColumns, kColumns, 3>;
  if constexpr (kHasWgmma) {
    Bf16* stage = DynamicShared<Bf16>();
    Bf16* b_tile = stage + 64 * 64;
    FillTile<64, 64>(a, stage);
    kBAlongRows ? FillTile<64, kColumns>(b, b_tile) : FillTile<kColumns, 64>(b, b_tile);
    FenceSharedForWgmma();
    __syncthreads();
    MmaSums<Shape> sums;
    ClearSums<Shape>(sums);
    BeginStage<Shape, kAAlongRows, kBAlongRows>(stage, false, sums);
    CommitWgmma();
    BeginStage<Shape, kAAlongRows, kBAlongRows>(stage, true, sums);
    CommitWgmma();
    WaitForSums<Shape>(sums);
    for (int n = 0; n < kColumns / 8; ++n) {
      for (int i = 0; i < 4; ++i) {
        const int row = MmaRow<Shape>() + i / 2 * 8, column = MmaColumn<Shape>() + n * 8 + i % 2;
        d[row * kColumns + column] = sums[0][n][i];
      }
    }
  }
}

// The operands are copied with cp.async without a fence for wgmma.
__global__ void UnfencedWgmmaKernel(const uint32_t* from) {
  using Shape = WgmmaShape<64, 128, 128, 3>;
  if constexpr (kHasWgmma) {
    Bf16* stage = DynamicShared<Bf16>();
    CopyAsync16(stage + threadIdx.x * 8, from, true);
    CommitCopies();
    WaitCopies<0>();
    __syncthreads();
    MmaSums<Shape> sums;
    ClearSums<Shape>(sums);
    BeginStage<Shape, true, true>(stage, false, sums);
    CommitWgmma();
    WaitForSums<Shape>(sums);
  }
}

__global__ void ReduceKernel(const float* values, Reduced* out) {
  const float value = values[GlobalThread()];
  const float sum = BlockSum(value), max = BlockMax(value);
  if (threadIdx.x == blockDim.x - 1) out[blockIdx.x] = {sum, max};
}

__global__ void ShuffleKernel(int* out) {
  const int lane = LaneId();
  out[lane * 4 + 0] = __shfl_xor_sync(kAllLanes, lane, 5);
  out[lane * 4 + 1] = __shfl_up_sync(kAllLanes, lane, 3);
  out[lane * 4 + 2] = __shfl_down_sync(kAllLanes, lane, 2);
  out[lane * 4 + 3] = __shfl_sync(kAllLanes, lane, 7);
}

__global__ void NeighbourKernel(int* out, bool with_barrier) {
  int* numbers = DynamicShared<int>();
  const unsigned thread = threadIdx.x, neighbour = (thread + blockDim.x / 2) % blockDim.x;
  numbers[thread] = static_cast<int>(thread);
  if (with_barrier) __syncthreads();
  out[thread] = numbers[neighbour];
}

__global__ void HalfABarrierKernel() {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void PastTheEndKernel(int* out) { out[threadIdx.x] = 1; }

__global__ void DifferentCollectivesKernel(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(kAllLanes, 1, 0);
  } else {
    __syncwarp();
  }
}

}  // namespace

std::vector<float> RunMma(const Pairs& a, const Pairs& b, const std::vector<float>& d) {
  const OnDevice<uint32_t> a_memory(a), b_memory(b);
  const OnDevice<float> d_memory(d);
  LaunchKernel(nullptr, {.grid = 1, .block = kWarp}, MmaKernel, a_memory.data(), b_memory.data(),
               d_memory.data());
  return d_memory.Read();
}

bool CanRunWgmma() {
  const std::unique_ptr<Stream> stream = Stream::Create({DeviceType::kCuda, 0});
  return HasWgmma(*stream);
}

std::vector<float> RunWgmma(int columns, bool a_across, bool b_across, const Pairs& a,
                            const Pairs& b) {
  const OnDevice<uint32_t> a_memory(a), b_memory(b);
  const OnDevice<float> d_memory{std::vector<float>(static_cast<size_t>(64 * columns))};
  const auto run = [&](auto* kernel) {
    LaunchKernel(nullptr,
                 {.grid = 1,
                  .block = 128,
                  .shared_bytes = static_cast<size_t>(64 + columns) * 64 * sizeof(Bf16)},
                 kernel, reinterpret_cast<const uint4*>(a_memory.data()),
                 reinterpret_cast<const uint4*>(b_memory.data()), d_memory.data());
  };
  if (columns == 128) {
    if (a_across) run(b_across ? WgmmaKernel<128, false, false> : WgmmaKernel<128, false, true>);
    if (!a_across) run(b_across ? WgmmaKernel<128, true, false> : WgmmaKernel<128, true, true>);
  } else {
    if (a_across) run(b_across ? WgmmaKernel<256, false, false> : WgmmaKernel<256, false, true>);
    if (!a_across) run(b_across ? WgmmaKernel<256, true, false> : WgmmaKernel<256, true, true>);
  }
  return d_memory.Read();
}

Pairs RunLoadMatrix(const Pairs& matrices, int num_matrices, bool transposed) {
  const OnDevice<uint32_t> from(matrices), to(matrices);
  LaunchKernel(nullptr, {.grid = 1, .block = kWarp}, LoadMatrixKernel, from.data(), num_matrices,
               transposed, to.data());
  return to.Read();
}

Pairs RunCopyAsync(const Pairs& from, int valid_blocks) {
  const OnDevice<uint32_t> from_memory(from), to(from);
  LaunchKernel(nullptr, {.grid = 1, .block = kWarp, .shared_bytes = 64 * 16}, CopyAsyncKernel,
               from_memory.data(), valid_blocks, to.data());
  return to.Read();
}

std::vector<Reduced> RunReduce(const std::vector<float>& values) {
  constexpr unsigned kThreads = 128;
  const OnDevice<float> from(values);
  const OnDevice<Reduced> to{std::vector<Reduced>(values.size() / kThreads)};
  LaunchKernel(nullptr,
               {.grid = static_cast<unsigned>(values.size() / kThreads), .block = kThreads},
               ReduceKernel, from.data(), to.data());
  return to.Read();
}

std::vector<int> RunShuffles() {
  const OnDevice<int> to{std::vector<int>(4 * kWarp)};
  LaunchKernel(nullptr, {.grid = 1, .block = kWarp}, ShuffleKernel, to.data());
  return to.Read();
}

std::vector<int> RunNeighbours(int threads, int bytes) {
  const OnDevice<int> to{std::vector<int>(static_cast<size_t>(threads))};
  LaunchKernel(nullptr,
               {.grid = 1,
                .block = static_cast<unsigned>(threads),
                .shared_bytes = static_cast<size_t>(bytes)},
               NeighbourKernel, to.data(), true);
  return to.Read();
}

std::vector<int> RunNeighboursWithoutBarrier(int threads) {
  const OnDevice<int> to{std::vector<int>(static_cast<size_t>(threads))};
  LaunchKernel(nullptr,
               {.grid = 1,
                .block = static_cast<unsigned>(threads),
                .shared_bytes = static_cast<size_t>(threads) * sizeof(int)},
               NeighbourKernel, to.data(), false);
  return to.Read();
}

void RunWithHalfABarrier() {
  LaunchKernel(nullptr, {.grid = 1, .block = 2 * kWarp}, HalfABarrierKernel);
}

void RunPastTheEnd() {
  const OnDevice<int> to{std::vector<int>(31)};
  LaunchKernel(nullptr, {.grid = 1, .block = kWarp}, PastTheEndKernel, to.data());
}

void RunUnfencedWgmma() {
  const OnDevice<uint32_t> from(Pairs(4));
  LaunchKernel(nullptr, {.grid = 1, .block = 128, .shared_bytes = (64 + 128) * 64 * 2},
               UnfencedWgmmaKernel, from.data());
}

void RunWithDifferentCollectives() {
  const OnDevice<int> to{std::vector<int>(kWarp)};
  LaunchKernel(nullptr, {.grid = 1, .block = kWarp}, DifferentCollectivesKernel, to.data());
}

void ReadDeviceMemoryOnTheHost() {
  const OnDevice<int> memory{std::vector<int>(1)};
  volatile int value = *memory.data();
  static_cast<void>(value);
}

}  // namespace unipool::testing
