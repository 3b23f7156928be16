// Placement of one pool's experts: global expert id -> owning rank of the expert group, and slot
// among that owner's experts. The number of experts need not be a multiple of the number of ranks;
// a rank may own no expert. The slots of every owner are split into the same number of chunks,
// initially 1; rows travel chunk by chunk (comm/token_exchange.h). Move-only: it owns tables in
// device memory.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

// A range of a rank's slots, and the range of rows of those slots when rows are sorted by slot.
struct ExpertPart {
  int64_t first_slot;
  int64_t last_slot;
  int64_t first_row;
  int64_t last_row;
};

class ExpertMap {
 public:
  // Contiguous blocks of floor or ceil size; the larger ones go to ranks first_rank, first_rank +
  // 1, ... (modulo ranks), so that several small pools spread their remainders.
  static ExpertMap Blocks(int experts, int ranks, int first_rank = 0);
  // owner[e] is the rank of expert e; each owner's slots follow the order of e.
  static ExpertMap FromOwners(std::vector<int> owners, int ranks);

  int experts() const { return static_cast<int>(owner_.size()); }
  int ranks() const { return static_cast<int>(owned_.size()); }
  int owner(int expert) const { return owner_[expert]; }
  int slot(int expert) const { return slot_[expert]; }
  // Global ids of a rank's experts, by slot.
  absl::Span<const int> owned(int rank) const { return owned_[rank]; }
  // Sets the number of chunks to min(chunks, max_chunks()); `chunks` is at least 1. Call it only
  // while no transfer with this map is in flight.
  void SetChunks(int chunks);
  int chunks() const { return chunks_; }
  // The largest number of experts of a rank; 1 with one rank, where no row travels.
  int max_chunks() const;
  // Chunk c of a rank holds its slots [first_slot(rank, c), first_slot(rank, c + 1)).
  int64_t first_slot(int rank, int chunk) const;
  // Position of an expert when all are sorted by (owner, slot).
  int order(int expert) const { return order_.positions[expert]; }
  // order() positions [first_order(r), first_order(r) + owned(r).size()) belong to rank r.
  int first_order(int rank) const { return first_order_[rank]; }
  // Tables of the position of every expert, int32 [experts], on the stream's device, for work that
  // is enqueued there from now on: order_table by (owner, slot), send_order_table by (chunk, owner,
  // slot), which is the order of outgoing rows. The first call uploads the table; it is valid until
  // SetChunks or the end of the map. All calls use one device.
  Tensor order_table(Stream& stream) const { return order_.On(stream); }
  Tensor send_order_table(Stream& stream) const { return send_order_.On(stream); }

 private:
  struct Table {
    Tensor On(Stream& stream) const;

    std::vector<int32_t> positions;
    mutable Buffer on_device;
    mutable bool uploaded = false;
  };

  ExpertMap() = default;

  std::vector<int> owner_;
  std::vector<int> slot_;
  int chunks_ = 1;
  Table order_, send_order_;
  std::vector<int> first_order_;
  std::vector<std::vector<int>> owned_;
};

}  // namespace unipool
