// SortByExpert: a counting sort in three kernels. Each block is one warp with a range of the pairs
// ("piece"). It counts its pairs by sort key; a scan over the pieces computes where each piece
// begins within every key; then each warp walks its pairs again, 32 at a time, and lanes with the
// same key take consecutive rows in lane order. The result does not depend on the order in which
// blocks run.
#include "runtime/ops/check_ids_cuda.h"
#include "runtime/ops/expert_order.h"
#include "runtime/ops/row_index.h"

namespace unipool {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

struct Sort {
  const int32_t* ids;
  const float* gates;  // or null
  const int32_t* order;
  const int32_t* count_order;
  int64_t* counts;
  int32_t* send_index;
  int32_t* positions;
  int* of_places;  // [experts]: number of pairs by sort key
  int* of_pieces;  // [pieces, experts]: pairs of the piece, then of all earlier pieces
  int64_t pairs;
  int64_t piece_pairs;
  int pieces;
  int experts;
  int k;
};

// The sort key of pair i, or -1 if i >= end or if the pair has no row.
__device__ __forceinline__ int PlaceOf(const Sort& op, int64_t i, int64_t end) {
  if (i >= end || (op.gates != nullptr && op.gates[i] == 0)) return -1;
  return op.order[CheckedId("sort_by_expert", op.ids[i], i, op.experts)];
}

__device__ __forceinline__ int64_t PieceEnd(const Sort& op) {
  const int64_t end = (static_cast<int64_t>(blockIdx.x) + 1) * op.piece_pairs;
  return end < op.pairs ? end : op.pairs;
}

// of_pieces[piece, key] = number of the piece's pairs with each key. One warp per piece.
__global__ void __launch_bounds__(kWarp) CountPieceKernel(Sort op) {
  int* counts = DynamicShared<int>();
  for (int e = LaneId(); e < op.experts; e += kWarp) counts[e] = 0;
  __syncwarp();
  const int64_t end = PieceEnd(op);
  for (int64_t i = blockIdx.x * op.piece_pairs + LaneId(); i < end; i += kWarp) {
    const int place = PlaceOf(op, i, end);
    if (place >= 0) atomicAdd(counts + place, 1);
  }
  __syncwarp();
  int* to = op.of_pieces + static_cast<int64_t>(blockIdx.x) * op.experts;
  for (int e = LaneId(); e < op.experts; e += kWarp) to[e] = counts[e];
}

// A warp scans the pieces of one expert.
__global__ void __launch_bounds__(kThreads) ScanPiecesKernel(Sort op) {
  const int e = static_cast<int>(blockIdx.x) * kWarps + WarpId();
  if (e >= op.experts) return;
  const int place = op.order[e];
  int before = 0;
  for (int first = 0; first < op.pieces; first += kWarp) {
    const int piece = first + LaneId();
    int* mine = op.of_pieces + static_cast<int64_t>(piece) * op.experts + place;
    const int count = piece < op.pieces ? *mine : 0;
    const int up_to_here = WarpPrefixSum(count);
    if (piece < op.pieces) *mine = before + up_to_here - count;
    before += __shfl_sync(kAllLanes, up_to_here, kWarp - 1);
  }
  if (LaneId() != 0) return;
  op.of_places[place] = before;
  op.counts[op.count_order[e]] = before;
}

// next[e] = row of the piece's first pair with key e. Returns the number of rows of all pieces.
// Called by one warp.
__device__ int FindFirstRows(const Sort& op, int* next) {
  const int* of_piece = op.of_pieces + static_cast<int64_t>(blockIdx.x) * op.experts;
  int before = 0;
  for (int first = 0; first < op.experts; first += kWarp) {
    const int e = first + LaneId();
    const int count = e < op.experts ? op.of_places[e] : 0;
    const int up_to_here = WarpPrefixSum(count);
    if (e < op.experts) next[e] = before + up_to_here - count + of_piece[e];
    before += __shfl_sync(kAllLanes, up_to_here, kWarp - 1);
  }
  return before;
}

// Writes positions and send_index of the piece's pairs. One warp per piece, 32 pairs at a time;
// lanes with the same key take consecutive rows. If pairs have no row, there are more elements of
// send_index than rows; the warp also writes those at the indices of its pairs.
__global__ void __launch_bounds__(kWarp) PlacePieceKernel(Sort op) {
  int* next = DynamicShared<int>();
  const int rows = FindFirstRows(op, next);
  __syncwarp();
  const int64_t end = PieceEnd(op);
  for (int64_t first = blockIdx.x * op.piece_pairs; first < end; first += kWarp) {
    const int64_t i = first + LaneId();
    const int place = PlaceOf(op, i, end);
    const unsigned same = __match_any_sync(kAllLanes, place);
    const int rank = __popc(same & ((1u << LaneId()) - 1));
    const int row = place >= 0 ? next[place] + rank : 0;
    __syncwarp();
    if (place >= 0) {
      if (rank == 0) next[place] = row + __popc(same);
      op.send_index[row] = static_cast<int32_t>(i / op.k);
    }
    if (i < end) op.positions[i] = place >= 0 ? row : kNoRow;
    if (i < end && i >= rows) op.send_index[i] = kNoRow;
    __syncwarp();
  }
}

struct Arrivals {
  const int64_t* counts;
  int64_t* offsets;
  // [sources * slots], in arrival order: number of rows before those of a source and slot
  int* first_arrival;
  int* first_row;  // [sources, slots]: rows of the slot from earlier sources
  int32_t* to_slot_order;
  int32_t* to_arrival_order;
  int64_t rows;
  int sources;
  int slots;
  int chunks;

  // Index in `counts` of the source and slot at position `at` of the arrival order.
  __device__ __forceinline__ int CountAt(int at) const {
    const int some_slot = at / sources;  // a slot of the chunk
    const int chunk = ((some_slot + 1) * chunks - 1) / slots;
    const int begin = slots * chunk / chunks, width = slots * (chunk + 1) / chunks - begin;
    const int inside = at - sources * begin;
    return inside / width * slots + begin + inside % width;
  }
};

// Launched with one block: prefix sums over slots and over arrivals.
__global__ void __launch_bounds__(kThreads) SumArrivalsKernel(Arrivals op) {
  for (int slot = static_cast<int>(threadIdx.x); slot < op.slots; slot += kThreads) {
    int before = 0;
    for (int source = 0; source < op.sources; ++source) {
      const int at = source * op.slots + slot;
      op.first_row[at] = before;
      before += static_cast<int>(op.counts[at]);
    }
    op.offsets[slot + 1] = before;
  }
  __syncthreads();
  if (WarpId() > 1) return;
  // Warp 0 scans the offsets of the slots, warp 1 the arrivals.
  const bool of_slots = WarpId() == 0;
  const int count = of_slots ? op.slots : op.sources * op.slots;
  int before = 0;
  for (int first = 0; first < count; first += kWarp) {
    const int at = first + LaneId();
    int mine = 0;
    if (at < count) {
      mine = static_cast<int>(of_slots ? op.offsets[at + 1] : op.counts[op.CountAt(at)]);
    }
    const int up_to_here = before + WarpPrefixSum(mine);
    if (at < count && of_slots) op.offsets[at + 1] = up_to_here;
    if (at < count && !of_slots) op.first_arrival[at] = up_to_here - mine;
    before = __shfl_sync(kAllLanes, up_to_here, kWarp - 1);
  }
  if (of_slots && LaneId() == 0) op.offsets[0] = 0;
}

// Each thread handles one arrival. It finds its source and slot by binary search: the last one that
// begins at or before the arrival.
__global__ void __launch_bounds__(kThreads) PlaceArrivalsKernel(Arrivals op) {
  for (int64_t arrival = GlobalThread(); arrival < op.rows; arrival += GridThreads()) {
    int low = 0, high = op.sources * op.slots;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (op.first_arrival[middle] <= arrival ? low : high) = middle;
    }
    const int at = op.CountAt(low);
    const int64_t row =
        op.offsets[at % op.slots] + op.first_row[at] + (arrival - op.first_arrival[low]);
    op.to_arrival_order[arrival] = static_cast<int32_t>(row);
    op.to_slot_order[row] = static_cast<int32_t>(arrival);
  }
}

}  // namespace

void ComputeOnCuda(const SortByExpert& op, Stream& stream) {
  constexpr int64_t kPairs = 256, kMaxPieces = 1024;
  const cudaStream_t cuda = CudaStream(stream);
  const Scratch scratch = ScratchOf(stream);
  Sort sort{.ids = op.ids.as<int32_t>(),
            .gates = op.gates.absent() ? nullptr : op.gates.as<float>(),
            .order = op.order.as<int32_t>(),
            .count_order = op.count_order.as<int32_t>(),
            .counts = op.counts.as<int64_t>(),
            .send_index = op.send_index.as<int32_t>(),
            .positions = op.positions.as<int32_t>(),
            .of_places = static_cast<int*>(scratch.data),
            .of_pieces = nullptr,
            .pairs = op.ids.numel(),
            .piece_pairs = kPairs,
            .pieces = 0,
            .experts = static_cast<int>(op.order.numel()),
            .k = static_cast<int>(op.ids.dim(1))};
  if (sort.experts == 0) return;
  sort.of_pieces = sort.of_places + sort.experts;
  const auto row_bytes = static_cast<size_t>(sort.experts) * sizeof(int);
  const auto fit = static_cast<int64_t>(scratch.bytes / row_bytes) - 1;
  const int64_t max_pieces = fit < kMaxPieces ? fit : kMaxPieces;
  if (sort.pairs > max_pieces * kPairs) sort.piece_pairs = CeilDivide(sort.pairs, max_pieces);
  sort.pieces = static_cast<int>(CeilDivide(sort.pairs, sort.piece_pairs));
  const LaunchShape pieces{.grid = dim3(static_cast<unsigned>(sort.pieces)),
                           .block = dim3(kWarp),
                           .shared_bytes = row_bytes};
  LaunchKernel(cuda, pieces, CountPieceKernel, sort);
  LaunchKernel(cuda,
               {.grid = dim3(static_cast<unsigned>(CeilDivide(sort.experts, kWarps))),
                .block = dim3(kThreads)},
               ScanPiecesKernel, sort);
  LaunchKernel(cuda, pieces, PlacePieceKernel, sort);
}

void ComputeOnCuda(const OrderArrivals& op, Stream& stream) {
  const cudaStream_t cuda = CudaStream(stream);
  const Scratch scratch = ScratchOf(stream);
  int* const first_arrival = static_cast<int*>(scratch.data);
  const bool sorts = !op.to_slot_order.absent();
  const Arrivals arrivals{.counts = op.counts.as<int64_t>(),
                          .offsets = op.offsets.as<int64_t>(),
                          .first_arrival = first_arrival,
                          .first_row = first_arrival + op.counts.numel(),
                          .to_slot_order = sorts ? op.to_slot_order.as<int32_t>() : nullptr,
                          .to_arrival_order = sorts ? op.to_arrival_order.as<int32_t>() : nullptr,
                          .rows = op.to_slot_order.numel(),
                          .sources = static_cast<int>(op.counts.dim(0)),
                          .slots = static_cast<int>(op.counts.dim(1)),
                          .chunks = static_cast<int>(op.chunks)};
  LaunchKernel(cuda, {.grid = dim3(1), .block = dim3(kThreads)}, SumArrivalsKernel, arrivals);
  if (!sorts) return;
  LaunchKernel(cuda, GridStride(arrivals.rows, kThreads), PlaceArrivalsKernel, arrivals);
}

}  // namespace unipool
