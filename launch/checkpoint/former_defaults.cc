#include "launch/checkpoint/former_defaults.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/config/run_config.h"

namespace unipool {

std::string AdoptFormerDefaults(const config::Run& saved, config::Run* run) {
  std::vector<std::string> kept;
  if (saved.model().init_std() == 0.01f &&
      run->model().init_std() == DefaultInitStd(run->model().hidden())) {
    run->mutable_model()->set_init_std(saved.model().init_std());
    kept.push_back("model.init_std = 0.01");
  }
  if (saved.pool().pool_loss() == 0.01 && run->pool().pool_loss() == 0.001) {
    run->mutable_pool()->set_pool_loss(saved.pool().pool_loss());
    kept.push_back("pool.pool_loss = 0.01");
  }
  if (saved.pool().router() == config::Pool::NORM &&
      run->pool().router() == config::Pool::SOFTMAX && run->pool().experts() < kFewestNormExperts) {
    run->mutable_pool()->set_router(config::Pool::NORM);
    kept.push_back("pool.router = NORM");
  }
  if (kept.empty()) return "";
  return absl::StrCat("the run keeps ", absl::StrJoin(kept, ", "),
                      " of its checkpoint; new runs have another default");
}

}  // namespace unipool
