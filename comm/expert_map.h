// Where each expert of one pool lives: global expert id -> owning rank of the expert group, and
// slot among that owner's experts. Experts need not divide by ranks; a rank may own none. Every
// owner's slots are cut into the same number of chunks, by which its rows travel; 1 at first.
// Move-only, as it holds its tables on a device.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

// Some experts of a rank, and the rows that are theirs where rows are sorted by slot.
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
  // owner[e] is the rank of expert e; slots are given in order of e.
  static ExpertMap FromOwners(std::vector<int> owners, int ranks);

  int experts() const { return static_cast<int>(owner_.size()); }
  int ranks() const { return static_cast<int>(owned_.size()); }
  int owner(int expert) const { return owner_[expert]; }
  int slot(int expert) const { return slot_[expert]; }
  // Global ids of a rank's experts, by slot.
  absl::Span<const int> owned(int rank) const { return owned_[rank]; }
  // At least 1, while no work with this map is under way; no more are made than a rank has experts,
  // and one where nothing travels.
  void SetChunks(int chunks);
  int chunks() const { return chunks_; }
  int max_chunks() const;
  // Chunk c of a rank is of its slots [first_slot(rank, c), first_slot(rank, c + 1)).
  int64_t first_slot(int rank, int chunk) const;
  // Position of an expert when all are sorted by (owner, slot).
  int order(int expert) const { return order_.positions[expert]; }
  // order() positions [first_order(r), first_order(r) + owned(r).size()) belong to rank r.
  int first_order(int rank) const { return first_order_[rank]; }
  // Position when sorted by (chunk, owner, slot): the order of outgoing rows.
  int send_order(int expert) const { return send_order_.positions[expert]; }
  // order() and send_order() of every expert, int32 [experts], on the stream's device, for work
  // that is enqueued there from now on. Uploaded when first asked for, and valid until chunks are
  // set or the map goes. For one device only.
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
