// Where each expert of one pool lives: global expert id -> owning rank of the expert group, and
// slot among that owner's experts. Experts need not divide by ranks; a rank may own none.
// Move-only, as it holds its table on a device.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "runtime/buffer.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

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
  // Position of an expert when all are sorted by (owner, slot): the order of outgoing rows.
  int order(int expert) const { return order_[expert]; }
  // order() of every expert, int32 [experts], on the stream's device, for work that is enqueued
  // there from now on. Uploaded when first asked for, and valid as long as the map is. For one
  // device only.
  Tensor order_table(Stream& stream) const;
  // order() positions [first_order(r), first_order(r) + owned(r).size()) belong to rank r.
  int first_order(int rank) const { return first_order_[rank]; }

 private:
  ExpertMap() = default;

  std::vector<int> owner_;
  std::vector<int> slot_;
  std::vector<int32_t> order_;
  mutable Buffer order_on_device_;
  std::vector<int> first_order_;
  std::vector<std::vector<int>> owned_;
};

}  // namespace unipool
