#include "launch/config/run_config.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "launch/config/config_fields.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kGood[] = R"(steps: 1000
model {
  vocab: 257
  hidden: 64
  layers: 6
  heads: 4
}
pool {
  experts: 32
}
data { prefix: "corpus" }
)";

// Writes the config file of a test into a folder that is removed with it.
class RunConfig : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "run_config_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string File(const std::string& text) {
    const std::string file = folder_ + "/x.textproto";
    std::ofstream(file, std::ios::binary) << text;
    return file;
  }

  absl::StatusOr<config::Run> Load(const std::string& text,
                                   const std::vector<std::string>& overrides = {}) {
    return LoadRunConfig(File(text), overrides, &warnings_);
  }

  std::string WithoutFolder(std::string line) const {
    for (size_t at; (at = line.find(folder_ + "/")) != std::string::npos;) {
      line.erase(at, folder_.size() + 1);
    }
    return line;
  }

  // The warnings of a config that loads.
  std::vector<std::string> Warnings(const std::string& text,
                                    const std::vector<std::string>& overrides = {}) {
    warnings_.clear();
    EXPECT_OK(Load(text, overrides));
    std::vector<std::string> warnings;
    for (const std::string& warning : warnings_) warnings.push_back(WithoutFolder(warning));
    return warnings;
  }

  // The error of a config that does not load, one line, without the folder.
  std::string Error(const std::string& text, const std::vector<std::string>& overrides = {}) {
    const absl::Status status = Load(text, overrides).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text << status;
    std::string line(status.message());
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    return WithoutFolder(line);
  }

  // The error of the good config with one override.
  std::string SetError(const std::string& assignment) { return Error(kGood, {assignment}); }

  std::string folder_;
  std::vector<std::string> warnings_;
};

TEST_F(RunConfig, OverridesReplaceTheFileInOrder) {
  const auto run = Load(kGood, {"model.layers=3", "model.layers=2", "run_dir=a=b", "seed=7",
                                "pool.router=SOFTMAX", "schedule.lr=1e-3", "model.norm_eps=0.5",
                                "profile.enabled=true", "parallel.threads=3"});
  ASSERT_OK(run);
  EXPECT_EQ(run->model().layers(), 2);
  EXPECT_EQ(run->run_dir(), "a=b");
  EXPECT_EQ(Load(kGood, {"data.prefix=\"quoted\""})->data().prefix(), "quoted");
  EXPECT_EQ(run->seed(), 7u);
  EXPECT_EQ(run->pool().router(), config::Pool::SOFTMAX);
  EXPECT_EQ(run->schedule().lr(), 1e-3);
  EXPECT_EQ(run->model().norm_eps(), 0.5f);
  EXPECT_TRUE(run->profile().enabled());
  EXPECT_EQ(run->parallel().threads(), 3);
}

TEST_F(RunConfig, OverridesAloneAreEnough) {
  const std::vector<std::string> all = {"steps=1",        "model.vocab=257", "model.hidden=8",
                                        "model.layers=1", "model.heads=2",   "pool.experts=17",
                                        "data.prefix=p"};
  EXPECT_OK(LoadRunConfig("", all, &warnings_));
  EXPECT_STATUS(LoadRunConfig("", {}, &warnings_), kInvalidArgument,
                "command line (no --config given): steps: not set; set it to an integer of at "
                "least 1");
}

TEST_F(RunConfig, ResolvingFillsWhatFollowsFromTheRest) {
  const auto run = Load(kGood);
  ASSERT_OK(run);
  EXPECT_EQ(run->model().kv_heads(), 4);
  EXPECT_EQ(run->model().head_dim(), 16);
  EXPECT_EQ(run->model().ffn(), 256);
  EXPECT_EQ(run->pool().layers_per_pool(), 6);
  EXPECT_EQ(run->schedule().decay_steps(), 1000);
  EXPECT_EQ(run->schedule().warmup_steps(), 10);
  EXPECT_EQ(Load(kGood, {"steps=1"})->schedule().warmup_steps(), 1);
  EXPECT_EQ(Load(kGood, {"schedule.decay_steps=60000"})->schedule().warmup_steps(), 600);
  EXPECT_EQ(Load(kGood, {"schedule.warmup_steps=0"})->schedule().warmup_steps(), 0);
}

TEST_F(RunConfig, ARouterWithABiasHasNoBalanceLossUnlessOneIsGiven) {
  EXPECT_EQ(Load(kGood)->pool().pool_loss(), 0.001);
  EXPECT_EQ(Load(kGood, {"pool.router=SIGMOID_BIAS"})->pool().pool_loss(), 0);
  EXPECT_EQ(Load(kGood, {"pool.router=SIGMOID_BIAS", "pool.pool_loss=0.5"})->pool().pool_loss(),
            0.5);
}

TEST_F(RunConfig, TheEstimatedConstantIsStatedForNormRouterAlone) {
  const auto stated = [this](const std::vector<std::string>& overrides) {
    config::Run run = Load(kGood, overrides).value();
    StateRouterConstant(&run);
    const config::Run again = Load(ToText(run)).value();
    EXPECT_EQ(again.pool().router_c(), run.pool().router_c());
    return run.pool().router_c();
  };
  EXPECT_NEAR(stated({"pool.experts=24"}), 2.619268151398126,
              1e-12);  // model/method.md#router-constant
  EXPECT_EQ(stated({"pool.router_c=1.5"}), 1.5);
  EXPECT_EQ(stated({"pool.router=SOFTMAX"}), 0);
  EXPECT_EQ(stated({"model.ffn_kind=DENSE"}), 0);
}

TEST_F(RunConfig, ResolvedTextShowsEveryFieldAndLoadsToItself) {
  const auto run = Load(kGood, {"run_dir=a \"b\"\\c", "optimizer.beta2=0.1"});
  ASSERT_OK(run);
  const std::string text = ToText(*run);
  for (const char* line : {"top_k: 1\n", "tokenizer: BYTE\n", "split: \"969,30,1\"\n",
                           "save_final: true\n", "enabled: false\n", "sequences: 0\n",
                           "norm_eps: 1e-05\n", "router: NORM\n", "seed: 1234\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  const auto again = Load(text);
  ASSERT_OK(again);
  EXPECT_EQ(ToText(*again), text);
  EXPECT_EQ(again->SerializeAsString(), run->SerializeAsString());
}

TEST_F(RunConfig, ParseErrorsNamePlaceFieldFindingAndRemedy) {
  EXPECT_EQ(Error("model {\n  hiden: 3\n}"),
            "x.textproto:2:3: hiden: not a field of Model; use one of vocab, hidden, layers, "
            "heads, kv_heads, head_dim, ffn, sequence, ffn_kind, rope_base, norm_eps, init_std, "
            "recompute, precision (did you mean \"hidden\"?)");
  EXPECT_THAT(Error("bogus: 3"),
              StartsWith("x.textproto:1:1: bogus: not a field of Run; use one of run_dir, "));
  EXPECT_EQ(Error("model {\n\thidden: abc\n}"),
            "x.textproto:2:17: hidden: found abc; write an integer");
  EXPECT_EQ(Error("steps: 1.5"), "x.textproto:1:8: steps: found 1.5; write an integer");
  EXPECT_EQ(Error("steps:"), "x.textproto:1:7: steps: found the end of the file; write an integer");
  EXPECT_EQ(Error("schedule { lr: big }"), "x.textproto:1:16: lr: found big; write a number");
  EXPECT_EQ(Error("run_dir: 5"), "x.textproto:1:10: run_dir: found 5; write a text in quotes");
  EXPECT_EQ(Error("steps: 99999999999999999999"),
            "x.textproto:1:8: steps: found 99999999999999999999, which is out of range; write a "
            "smaller number");
  EXPECT_EQ(Error("pool {\n  router: NRM\n\n}"),
            "x.textproto:2:11: router: found NRM; write NORM or SOFTMAX or SIGMOID_BIAS (did you "
            "mean \"NORM\"?)");
  EXPECT_THAT(Error("profile { enabled: 7 }"), StartsWith("x.textproto:1:20: enabled: "));
  EXPECT_EQ(Error("profile { enabled: maybe }"),
            "x.textproto:1:20: enabled: found maybe; write true or false");
  EXPECT_EQ(Error("steps: 1\nsteps: 2"), "x.textproto:2:1: steps: set twice; remove one of them");
  EXPECT_THAT(Error("model {\n  hidden: 3\n"), StartsWith("x.textproto:3:1: "));
  EXPECT_THAT(Error(std::string("ste\x01\0ps: 3", 10)), StartsWith("x.textproto:1:4: "));
}

TEST_F(RunConfig, OverrideErrorsNameTheOverride) {
  EXPECT_EQ(SetError("model.layers=abc"),
            "--set model.layers=abc: model.layers: found abc; write an integer");
  EXPECT_EQ(SetError("model.layers=1.5"),
            "--set model.layers=1.5: model.layers: found 1.5; write an integer");
  EXPECT_EQ(SetError("model.layers="),
            "--set model.layers=: model.layers: found nothing; write an integer");
  EXPECT_EQ(SetError("parallel.threads=3000000000"),
            "--set parallel.threads=3000000000: parallel.threads: found 3000000000; write an "
            "integer from -2147483648 to 2147483647");
  EXPECT_EQ(SetError("seed=-1"), "--set seed=-1: seed: found -1; write an integer of at least 0");
  EXPECT_EQ(SetError("schedule.lr=big"),
            "--set schedule.lr=big: schedule.lr: found big; write a number");
  EXPECT_EQ(SetError("profile.enabled=2"),
            "--set profile.enabled=2: profile.enabled: found 2; write true or false");
  EXPECT_EQ(SetError("pool.router=SOFT"),
            "--set pool.router=SOFT: pool.router: found SOFT; write NORM or SOFTMAX or "
            "SIGMOID_BIAS (did you mean \"SOFTMAX\"?)");
  EXPECT_THAT(SetError("modle.layers=4"), StartsWith("--set modle.layers=4: modle: not a field of "
                                                     "Run; use one of run_dir, "));
  EXPECT_THAT(SetError("modle.layers=4"), HasSubstr("(did you mean \"model\"?)"));
  EXPECT_EQ(SetError("lr=4"), "--set lr=4: lr: not a field of Run; did you mean \"schedule.lr\"?");
  EXPECT_THAT(SetError("model.lay=4"), HasSubstr("model.lay: not a field of Model"));
  EXPECT_THAT(SetError("pool=4"), HasSubstr("pool: holds other fields; set one of pool.experts, "));
  EXPECT_EQ(SetError("steps.x=4"),
            "--set steps.x=4: steps: has no fields inside; write steps=VALUE");
  EXPECT_THAT(SetError("steps"), HasSubstr("found no FIELD=VALUE; write for example --set model"));
  EXPECT_THAT(SetError("=3"), HasSubstr("found no FIELD=VALUE"));
}

TEST_F(RunConfig, UnreadableFilesAreNamed) {
  EXPECT_STATUS(LoadRunConfig(folder_ + "/none.textproto", {}, &warnings_), kInvalidArgument,
                "none.textproto: cannot be read: No such file or directory; check the path");
  EXPECT_STATUS(LoadRunConfig(folder_, {}, &warnings_), kInvalidArgument,
                "is a folder; give the path of a file");
}

TEST_F(RunConfig, BrokenRulesNameBothSidesAndTheirPlaces) {
  EXPECT_EQ(SetError("pool.top_k=33"),
            "--set pool.top_k=33: pool.top_k: found 33; set it to at most pool.experts = 32 "
            "(x.textproto:9:3)");
  const std::string seven_heads =
      std::string(kGood).replace(std::string(kGood).find("heads: 4"), 8, "heads: 7");
  EXPECT_EQ(Error(seven_heads),
            "x.textproto:6:3: model.heads: found 7; set it to a divisor of model.hidden = 64 "
            "(x.textproto:4:3), or set model.head_dim");
  EXPECT_EQ(Error(seven_heads, {"model.head_dim=8", "model.kv_heads=2"}),
            "--set model.kv_heads=2: model.kv_heads: found 2; set it to a divisor of "
            "model.heads = 7 (x.textproto:6:3)");
  EXPECT_EQ(SetError("schedule.lr=1e-5"),
            "x.textproto: schedule.min_lr: found 5e-05 (the default); set it to at most "
            "schedule.lr = 1e-05 (--set schedule.lr=1e-5)");
}

TEST_F(RunConfig, MissingFieldsNameTheMessageAroundThem) {
  std::string text = kGood;
  text.erase(text.find("  hidden: 64\n"), 13);
  EXPECT_EQ(Error(text),
            "x.textproto:2:1: model.hidden: not set; set it to an integer of at least 1");
  EXPECT_EQ(Error("steps: 3"),
            "x.textproto: model.vocab: not set; set it to an integer of at least 1");
  text = kGood;
  text.erase(text.find("data {"));
  EXPECT_EQ(Error(text),
            "x.textproto: data.prefix: not set; set it to PREFIX of the files PREFIX.bin and "
            "PREFIX.idx");
}

struct BadValue {
  std::string assignment;
  std::string error;
};

TEST_F(RunConfig, ImpossibleModelsAreRefused) {
  for (const BadValue& bad : std::vector<BadValue>{
           {"model.vocab=256", "at least 257 with data.tokenizer = BYTE"},
           {"model.hidden=0", "at least 1"},
           {"model.hidden=3000000000", "at most 2147483647"},
           {"model.layers=-1", "at least 1"},
           {"model.heads=0", "at least 1"},
           {"model.kv_heads=3", "a divisor of model.heads = 4"},
           {"model.kv_heads=-2", "at least 0"},
           {"model.head_dim=15", "0 or an even number"},
           {"model.hidden=20", "found 4, which makes hidden / heads = 5 with model.hid"},
           {"model.ffn=-1", "at least 0"},
           {"model.sequence=0", "at least 1"},
           {"model.norm_eps=nan", "above 0"},
           {"model.rope_base=inf", "above 0"},
           {"model.init_std=-0.1", "at least 0"}}) {
    EXPECT_THAT(SetError(bad.assignment), HasSubstr(bad.error)) << bad.assignment;
  }
}

TEST_F(RunConfig, ImpossiblePoolsAreRefused) {
  for (const BadValue& bad :
       std::vector<BadValue>{{"pool.experts=0", "at least 1"},
                             {"pool.experts=65537", "at most 65536"},
                             {"pool.top_k=0", "at least 1"},
                             {"pool.layers_per_pool=4", "a divisor of model.layers = 6"},
                             {"pool.layers_per_pool=7", "a divisor of model.layers = 6"},
                             {"pool.gradient_layers=-5", "at least 0"},
                             {"pool.router_eps=-1", "at least 0"},
                             {"pool.router_c=nan", "at least 0"},
                             {"pool.bias_rate=-1", "at least 0"},
                             {"pool.pool_loss=-0.1", "at least 0"},
                             {"pool.layer_loss=-0.1", "at least 0"}}) {
    EXPECT_THAT(SetError(bad.assignment), HasSubstr(bad.error)) << bad.assignment;
  }
  EXPECT_OK(Load(kGood, {"pool.experts=8", "pool.router_c=1.87"}));
  EXPECT_OK(Load(kGood, {"pool.experts=8", "pool.router=SOFTMAX"}));
  EXPECT_OK(Load(kGood, {"model.ffn_kind=DENSE", "pool.top_k=64", "pool.layers_per_pool=4"}));
}

TEST_F(RunConfig, ImpossibleRunsAreRefused) {
  for (const BadValue& bad :
       std::vector<BadValue>{{"run_dir=", "the path of a folder"},
                             {"steps=0", "at least 1"},
                             {"steps=-5", "at least 1"},
                             {"data.prefix=", "PREFIX.bin"},
                             {"data.split=", "one to three weights of 0 or more, not all 0"},
                             {"data.split=0,0,0", "one to three weights of 0 or more, not all 0"},
                             {"data.split=90,5,4,1", "one to three weights"},
                             {"optimizer.beta1=0.99999999", "below 1"},
                             {"parallel.threads=100000", "at most 1024"},
                             {"data.split=90,-5,5", "one to three weights"},
                             {"data.split=90,x,5", "one to three weights"},
                             {"data.global_batch=0", "at least 1"},
                             {"data.micro_batch=513", "at most data.global_batch = 512"},
                             {"optimizer.beta1=1", "below 1"},
                             {"optimizer.beta2=-0.1", "at least 0"},
                             {"optimizer.eps=0", "above 0"},
                             {"optimizer.weight_decay=-1", "at least 0"},
                             {"optimizer.clip_norm=-1", "at least 0"},
                             {"schedule.lr=0", "above 0"},
                             {"schedule.min_lr=-1", "at least 0"},
                             {"schedule.warmup_steps=1001", "at most steps = 1000"},
                             {"schedule.warmup_steps=-2", "at least -1"},
                             {"parallel.expert_parallel=-1", "at least 0"},
                             {"parallel.deadline_seconds=0", "at least 1"},
                             {"parallel.exchange_chunks=-1", "at least 0"},
                             {"eval.every_steps=-1", "at least 0"},
                             {"divergence.loss_spike=0.5", "0, or a number above 1"},
                             {"divergence.norm_spike=nan", "0, or a number above 1"},
                             {"divergence.window=0", "at least 1"},
                             {"divergence.max_skips_in_a_row=0", "at least 1"},
                             {"divergence.max_rewinds=0", "at least 1"},
                             {"eval.sequences=-1", "at least 0"}}) {
    EXPECT_THAT(SetError(bad.assignment), HasSubstr(bad.error)) << bad.assignment;
  }
}

TEST_F(RunConfig, TheFilesOfATokenizerComeTogetherAndForGpt2) {
  const std::string gpt2 = "data.tokenizer=GPT2", vocab = "data.vocab_file=v.json",
                    merges = "data.merges_file=m.txt";
  EXPECT_OK(Load(kGood, {gpt2}));
  EXPECT_OK(Load(kGood, {gpt2, vocab, merges}));
  EXPECT_THAT(Error(kGood, {gpt2, vocab}),
              HasSubstr("data.merges_file: found \"\" (the default); set it to the merges.txt of "
                        "data.vocab_file = \"v.json\" (--set data.vocab_file=v.json)"));
  EXPECT_THAT(Error(kGood, {gpt2, merges}),
              HasSubstr("data.vocab_file: found \"\" (the default); set it to the vocab.json of"));
  EXPECT_THAT(Error(kGood, {vocab, merges}),
              HasSubstr("data.tokenizer: found BYTE (the default); set it to GPT2 to use data.vo"));
}

std::string WithSources(const std::string& sources, const std::string& eval = "sequences: 8") {
  std::string text = kGood;
  const std::string prefix = R"(prefix: "corpus")";
  text.replace(text.find(prefix), prefix.size(), sources);
  return text + "eval { " + eval + " }\n";
}

TEST_F(RunConfig, SourcesAreListedWithTheirWeights) {
  const auto run = Load(WithSources(R"(source { prefix: "a" weight: 2 } source { prefix: "b" })"));
  ASSERT_OK(run);
  ASSERT_EQ(run->data().source_size(), 2);
  EXPECT_EQ(run->data().source(0).weight(), 2);
  EXPECT_EQ(run->data().source(1).prefix(), "b");
  EXPECT_TRUE(run->data().source(1).has_weight());  // resolved: every field is explicit
  const auto again = Load(ToText(*run));
  ASSERT_OK(again);
  EXPECT_EQ(ToText(*again), ToText(*run));
}

TEST_F(RunConfig, ImpossibleSourcesAreRefusedAtTheirPlace) {
  EXPECT_THAT(Error(WithSources("source { prefix: \"a\" }\nsource { weight: 1 }")),
              HasSubstr("1: data.source[1].prefix: not set; set it to PREFIX"));
  for (const std::string weight : {"0", "-1", "nan", "inf"}) {
    EXPECT_THAT(
        Error(WithSources("source { prefix: \"a\" weight: " + weight + " }")),
        HasSubstr("data.source[0].weight: found " + weight + "; set it to a number above 0"));
  }
  const std::string one = "source { prefix: \"a\" }";
  EXPECT_THAT(Error(WithSources(one), {"data.prefix=p"}),
              HasSubstr("--set data.prefix=p: data.prefix: found \"p\" and also data.source; "
                        "remove one of them"));
  EXPECT_THAT(
      Error(WithSources(one, "")),
      HasSubstr("eval.sequences: found 0 (the default); set it to at least 1 with data.source"));
  EXPECT_THAT(SetError("data.source.prefix=a"),
              HasSubstr("data.source: is a list; set it in a config file"));
  EXPECT_THAT(Error(WithSources("source { prefx: \"a\" }")),
              HasSubstr("prefx: not a field of Source; use one of prefix, weight (did you mean"));
}

TEST_F(RunConfig, MegatronsOrderNeedsWhatItsArraysDependOn) {
  const std::string megatron = "data.order=MEGATRON", sequences = "eval.sequences=8";
  EXPECT_OK(Load(kGood, {megatron, sequences}));
  EXPECT_THAT(Error(kGood, {megatron}), HasSubstr("eval.sequences: found 0"));
  EXPECT_THAT(
      Error(kGood, {megatron, sequences, "seed=4294967296"}),
      HasSubstr("seed: found 4294967296; set it to at most 4294967295 with data.order = MEGATRON"));
  EXPECT_THAT(SetError("data.skip_steps=-1"), HasSubstr("at least 0"));
  EXPECT_THAT(Error(kGood, {"eval.test=true", "data.split=90,10,0"}),
              HasSubstr("weights with the third above 0, or set eval.test to false"));
}

TEST_F(RunConfig, APartOfTheSplitMayBeEmpty) {
  for (const char* split : {"100,0,0", "99,1", "98,2,0", "0,0,100", "7", "0.9, 0.1"}) {
    EXPECT_OK(Load(kGood, {absl::StrCat("data.split=", split)})) << split;
  }
  EXPECT_THAT(Error(kGood, {"eval.test=true", "data.split=99,1"}),
              HasSubstr("weights with the third above 0, or set eval.test to false"));
  EXPECT_OK(Load(kGood, {"data.order=MEGATRON", "data.split=1"}));
  EXPECT_THAT(Error(kGood, {"data.order=MEGATRON", "data.split=1,0,1", "eval.test=true"}),
              HasSubstr("eval.sequences: found 0"));
}

TEST_F(RunConfig, ExpertParallelDividesTheRanks) {
  auto run = Load(kGood, {"parallel.expert_parallel=2"});
  ASSERT_OK(run);
  EXPECT_OK(CheckRanks(*run, 4));
  EXPECT_STATUS(CheckRanks(*run, 3), kInvalidArgument,
                "parallel.expert_parallel = 2 does not divide 3 ranks; set it to one of 1, 3, "
                "or to 0 for all ranks");
  EXPECT_STATUS(CheckRanks(*run, 1), kInvalidArgument,
                "= 2 does not divide 1 rank; set it to one of 1, ");
  run->mutable_parallel()->set_expert_parallel(0);
  EXPECT_OK(CheckRanks(*run, 7));
}

TEST_F(RunConfig, AMessageMadeInCodeIsCheckedUnderItsSourcesName) {
  config::Run run;
  EXPECT_STATUS(CheckRunConfig(run, "manifest"), kInvalidArgument, "manifest: steps: not set");
}

TEST_F(RunConfig, EveryConfigOfTheRepositoryLoads) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(UNIPOOL_CONFIGS)) {
    if (entry.path().extension() != ".textproto") continue;
    const auto run = LoadRunConfig(entry.path().string(), {}, &warnings_);
    ASSERT_OK(run);
    EXPECT_OK(CheckRunConfig(*run, entry.path().string()));
    ++files;
  }
  EXPECT_GE(files, 38);
  EXPECT_THAT(warnings_, ElementsAre());
}

constexpr char kFormerNames[] =
    "divergence {\n  most_in_a_row: 4\n  window: 3\n  most_rewinds: 5\n}\n";

TEST_F(RunConfig, FormerNamesLoadWithAWarningEach) {
  EXPECT_THAT(Warnings(std::string(kGood) + kFormerNames),
              ElementsAre("x.textproto:13:3: divergence.most_in_a_row is now "
                          "divergence.max_skips_in_a_row; please rename it",
                          "x.textproto:15:3: divergence.most_rewinds is now "
                          "divergence.max_rewinds; please rename it"));
  EXPECT_THAT(Warnings(kGood, {"divergence.most_rewinds=7"}),
              ElementsAre("--set divergence.most_rewinds=7: divergence.most_rewinds is now "
                          "divergence.max_rewinds; please rename it"));
  EXPECT_THAT(Warnings(kGood, {"divergence.max_rewinds=7"}), ElementsAre());
}

TEST_F(RunConfig, FormerNamesMeanTheNewOnes) {
  const auto run = Load(std::string(kGood) + kFormerNames, {"divergence.most_rewinds=7"});
  ASSERT_OK(run);
  EXPECT_EQ(run->divergence().max_skips_in_a_row(), 4);
  EXPECT_EQ(run->divergence().max_rewinds(), 7);
  EXPECT_THAT(ToText(*run), Not(HasSubstr("most_")));
  EXPECT_EQ(
      Load(std::string(kGood) + kFormerNames, {"divergence.max_rewinds=7"})->SerializeAsString(),
      run->SerializeAsString());
  EXPECT_EQ(Error(std::string(kGood) + "divergence { most_rewinds: 0 }"),
            "x.textproto:12:14: divergence.max_rewinds: found 0; set it to an integer of at least "
            "1");
}

TEST_F(RunConfig, BothNamesOfAFieldAreRefused) {
  EXPECT_EQ(Error(std::string(kGood) + "divergence { max_rewinds: 2 most_rewinds: 2 }"),
            "x.textproto:12:29: divergence.most_rewinds: found both this former name and "
            "divergence.max_rewinds; remove divergence.most_rewinds");
  EXPECT_THAT(Error(kGood, {"divergence.most_rewinds=2", "divergence.max_rewinds=3"}),
              StartsWith("--set divergence.most_rewinds=2: divergence.most_rewinds: found both"));
}

TEST_F(RunConfig, FormerNamesAreNotListed) {
  EXPECT_THAT(FieldPaths(config::Run()), Not(Contains(HasSubstr("most_"))));
  EXPECT_THAT(SetError("divergence.x=1"), Not(HasSubstr("most_")));
  EXPECT_THAT(SetError("divergence=1"), Not(HasSubstr("most_")));
}

}  // namespace
}  // namespace unipool
