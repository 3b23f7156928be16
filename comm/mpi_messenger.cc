// Messages between watchdogs, on a separate MPI communicator.
#include <glog/logging.h>
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "comm/mpi_communicator.h"
#include "comm/watchdog.h"

namespace unipool {
namespace {

// Ignores MPI errors: a rank that cannot be reached sends no message, and the watchdog reports
// that.
class MpiMessenger : public Messenger {
 public:
  explicit MpiMessenger(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  }
  ~MpiMessenger() override { MPI_Comm_free(&comm_); }

  // To be called once. The buffer is kept until destruction, since a stopped rank may never receive
  // the message.
  void SendToAll(const std::string& text) override {
    sent_ = text.substr(0, kMaxBytes);
    int rank = 0, size = 0;
    MPI_Comm_rank(comm_, &rank);
    MPI_Comm_size(comm_, &size);
    for (int to = 0; to < size; ++to) {
      if (to == rank) continue;
      MPI_Request request = MPI_REQUEST_NULL;
      MPI_Isend(sent_.data(), static_cast<int>(sent_.size()), MPI_BYTE, to, 0, comm_, &request);
      if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
    }
  }

  std::optional<Message> Receive() override {
    int has_message = 0, bytes = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, 0, comm_, &has_message, &status) != MPI_SUCCESS ||
        has_message == 0) {
      return std::nullopt;
    }
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    Message message{status.MPI_SOURCE, std::string(bytes, '\0')};
    if (MPI_Recv(message.text.data(), bytes, MPI_BYTE, message.from, 0, comm_, MPI_STATUS_IGNORE) !=
        MPI_SUCCESS) {
      return std::nullopt;
    }
    return message;
  }

 private:
  MPI_Comm comm_;
  std::string sent_;
};

}  // namespace

std::unique_ptr<Messenger> CreateMpiMessenger() {
  MPI_Comm comm = MPI_COMM_NULL;
  CHECK_EQ(MPI_Comm_dup(MPI_COMM_WORLD, &comm), MPI_SUCCESS);
  return std::make_unique<MpiMessenger>(comm);
}

}  // namespace unipool
