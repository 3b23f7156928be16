#include "launch/config/run_config.h"

#include <filesystem>
#include <fstream>

#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

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

// A config file that goes with the test.
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
    return LoadRunConfig(File(text), overrides);
  }

  // The error's one line, without the folder.
  std::string Error(const std::string& text, const std::vector<std::string>& overrides = {}) {
    const absl::Status status = Load(text, overrides).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text << status;
    std::string line(status.message());
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    for (size_t at; (at = line.find(folder_ + "/")) != std::string::npos;) {
      line.erase(at, folder_.size() + 1);
    }
    return line;
  }

  // The error of the good config with one override.
  std::string SetError(const std::string& assignment) { return Error(kGood, {assignment}); }

  std::string folder_;
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
  EXPECT_OK(LoadRunConfig("", all));
  EXPECT_STATUS(LoadRunConfig("", {}), kInvalidArgument,
                "command line (no --config given): steps is not given: expected an integer of at "
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
  EXPECT_EQ(Load(kGood)->pool().pool_loss(), 0.01);
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

TEST_F(RunConfig, ParseErrorsNameThePlaceTheFieldAndWhatWasExpected) {
  EXPECT_EQ(Error("model {\n  hiden: 3\n}"),
            "x.textproto:2:3: unknown field \"hiden\" in Model (fields: vocab, hidden, layers, "
            "heads, kv_heads, head_dim, ffn, sequence, ffn_kind, rope_base, norm_eps, init_std, "
            "recompute, precision; did you mean \"hidden\"?)");
  EXPECT_THAT(Error("bogus: 3"), StartsWith("x.textproto:1:1: unknown field \"bogus\" in Run (f"));
  EXPECT_EQ(Error("model {\n\thidden: abc\n}"),
            "x.textproto:2:17: hidden: expected an integer, got abc");
  EXPECT_EQ(Error("steps: 1.5"), "x.textproto:1:8: steps: expected an integer, got 1.5");
  EXPECT_EQ(Error("steps:"),
            "x.textproto:1:7: steps: expected an integer, got the end of the file");
  EXPECT_EQ(Error("schedule { lr: big }"), "x.textproto:1:16: lr: expected a number, got big");
  EXPECT_EQ(Error("run_dir: 5"), "x.textproto:1:10: run_dir: expected a text in quotes, got 5");
  EXPECT_EQ(Error("steps: 99999999999999999999"),
            "x.textproto:1:8: steps: integer out of range (99999999999999999999)");
  EXPECT_EQ(Error("pool {\n  router: NRM\n\n}"),
            "x.textproto:2:11: router: expected NORM or SOFTMAX or SIGMOID_BIAS, got \"NRM\" (did "
            "you mean "
            "\"NORM\"?)");
  EXPECT_THAT(Error("profile { enabled: 7 }"), StartsWith("x.textproto:1:20: enabled: "));
  EXPECT_EQ(Error("profile { enabled: maybe }"),
            "x.textproto:1:20: enabled: expected true or false, got maybe");
  EXPECT_EQ(Error("steps: 1\nsteps: 2"), "x.textproto:2:1: steps: given twice, expected once");
  EXPECT_THAT(Error("model {\n  hidden: 3\n"), StartsWith("x.textproto:3:1: "));
  EXPECT_THAT(Error(std::string("ste\x01\0ps: 3", 10)), StartsWith("x.textproto:1:4: "));
}

TEST_F(RunConfig, OverrideErrorsNameTheOverride) {
  EXPECT_EQ(SetError("model.layers=abc"), "--set model.layers=abc: expected an integer");
  EXPECT_EQ(SetError("model.layers=1.5"), "--set model.layers=1.5: expected an integer");
  EXPECT_EQ(SetError("model.layers="), "--set model.layers=: expected an integer");
  EXPECT_EQ(SetError("parallel.threads=3000000000"),
            "--set parallel.threads=3000000000: expected an integer of 32 bits");
  EXPECT_EQ(SetError("seed=-1"), "--set seed=-1: expected an integer of at least 0");
  EXPECT_EQ(SetError("schedule.lr=big"), "--set schedule.lr=big: expected a number");
  EXPECT_EQ(SetError("profile.enabled=2"), "--set profile.enabled=2: expected true or false");
  EXPECT_EQ(SetError("pool.router=SOFT"),
            "--set pool.router=SOFT: expected NORM or SOFTMAX or SIGMOID_BIAS, got \"SOFT\" (did "
            "you mean "
            "\"SOFTMAX\"?)");
  EXPECT_THAT(SetError("modle.layers=4"), StartsWith("--set modle.layers=4: no field \"modle\" in "
                                                     "Run (fields: run_dir, "));
  EXPECT_THAT(SetError("modle.layers=4"), HasSubstr("did you mean \"model\"?)"));
  EXPECT_THAT(SetError("model.lay=4"), HasSubstr("no field \"lay\" in Model"));
  EXPECT_THAT(SetError("pool=4"), HasSubstr("expected a field of pool, one of experts, "));
  EXPECT_THAT(SetError("steps.x=4"), HasSubstr("steps has no fields inside"));
  EXPECT_THAT(SetError("steps"), HasSubstr("expected FIELD=VALUE"));
  EXPECT_THAT(SetError("=3"), HasSubstr("expected FIELD=VALUE"));
}

TEST_F(RunConfig, UnreadableFilesAreNamed) {
  EXPECT_STATUS(LoadRunConfig(folder_ + "/none.textproto", {}), kInvalidArgument,
                "none.textproto: cannot be read as a config: No such file or directory");
  EXPECT_STATUS(LoadRunConfig(folder_, {}), kInvalidArgument, "Is a directory");
}

TEST_F(RunConfig, BrokenRulesNameBothSidesAndTheirPlaces) {
  EXPECT_EQ(SetError("pool.top_k=33"),
            "--set pool.top_k=33: pool.top_k = 33: expected at most pool.experts = 32 "
            "(x.textproto:9:3)");
  const std::string seven_heads =
      std::string(kGood).replace(std::string(kGood).find("heads: 4"), 8, "heads: 7");
  EXPECT_EQ(Error(seven_heads),
            "x.textproto:6:3: model.heads = 7: expected a divisor of model.hidden = 64 "
            "(x.textproto:4:3), or model.head_dim given");
  EXPECT_EQ(Error(seven_heads, {"model.head_dim=8", "model.kv_heads=2"}),
            "--set model.kv_heads=2: model.kv_heads = 2: expected a divisor of model.heads = 7 "
            "(x.textproto:6:3)");
  EXPECT_EQ(SetError("schedule.lr=1e-5"),
            "x.textproto: schedule.min_lr = 5e-05 by default: expected at most schedule.lr = "
            "1e-05 (--set schedule.lr=1e-5)");
}

TEST_F(RunConfig, MissingFieldsNameTheMessageAroundThem) {
  std::string text = kGood;
  text.erase(text.find("  hidden: 64\n"), 13);
  EXPECT_EQ(Error(text),
            "x.textproto:2:1: model.hidden is not given: expected an integer of at least 1");
  EXPECT_EQ(Error("steps: 3"),
            "x.textproto: model.vocab is not given: expected an integer of at least 1");
  text = kGood;
  text.erase(text.find("data {"));
  EXPECT_EQ(Error(text),
            "x.textproto: data.prefix is not given: expected PREFIX of the files PREFIX.bin and "
            "PREFIX.idx");
}

struct BadValue {
  std::string assignment;
  std::string error;
};

TEST_F(RunConfig, ImpossibleModelsAreRefused) {
  for (const BadValue& bad :
       std::vector<BadValue>{{"model.vocab=256", "at least 257 for data.tokenizer = BYTE"},
                             {"model.hidden=0", "at least 1"},
                             {"model.hidden=3000000000", "at most 2147483647"},
                             {"model.layers=-1", "at least 1"},
                             {"model.heads=0", "at least 1"},
                             {"model.kv_heads=3", "a divisor of model.heads = 4"},
                             {"model.kv_heads=-2", "at least 0"},
                             {"model.head_dim=15", "an even number"},
                             {"model.hidden=20", "an even head_dim, got 5 = hidden / heads"},
                             {"model.ffn=-1", "at least 0"},
                             {"model.sequence=0", "at least 1"},
                             {"model.norm_eps=nan", "above 0"},
                             {"model.rope_base=inf", "above 0"},
                             {"model.init_std=0", "above 0"}}) {
    EXPECT_THAT(SetError(bad.assignment), HasSubstr(bad.error)) << bad.assignment;
  }
}

TEST_F(RunConfig, ImpossiblePoolsAreRefused) {
  for (const BadValue& bad :
       std::vector<BadValue>{{"pool.experts=0", "at least 1"},
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
                             {"data.split=90,5", "three weights"},
                             {"data.split=0,5,5", "three weights"},
                             {"data.split=100,0,0", "the first two above 0"},
                             {"optimizer.beta1=0.99999999", "below 1"},
                             {"parallel.threads=100000", "at most 1024"},
                             {"data.split=90,-5,5", "three weights"},
                             {"data.split=90,x,5", "three weights"},
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
                             {"divergence.most_in_a_row=0", "at least 1"},
                             {"divergence.most_rewinds=0", "at least 1"},
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
              HasSubstr("data.merges_file = \"\" by default: expected a merges.txt for "
                        "data.vocab_file = \"v.json\" (--set data.vocab_file=v.json)"));
  EXPECT_THAT(Error(kGood, {gpt2, merges}), HasSubstr("data.vocab_file = \"\" by default"));
  EXPECT_THAT(Error(kGood, {vocab, merges}),
              HasSubstr("data.tokenizer = BYTE by default: expected GPT2 for data.vocab_file"));
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
              HasSubstr("1: data.source[1].prefix is not given: expected PREFIX"));
  for (const std::string weight : {"0", "-1", "nan", "inf"}) {
    EXPECT_THAT(Error(WithSources("source { prefix: \"a\" weight: " + weight + " }")),
                HasSubstr("data.source[0].weight = " + weight + ": expected a number above 0"));
  }
  const std::string one = "source { prefix: \"a\" }";
  EXPECT_THAT(Error(WithSources(one), {"data.prefix=p"}),
              HasSubstr("--set data.prefix=p: data.prefix = \"p\": expected either data.prefix or "
                        "data.source, not both"));
  EXPECT_THAT(Error(WithSources(one, "")),
              HasSubstr("eval.sequences = 0 by default: expected at least 1 for data.source"));
  EXPECT_THAT(SetError("data.source.prefix=a"), HasSubstr("source is a list: expected it in a"));
  EXPECT_THAT(Error(WithSources("source { prefx: \"a\" }")),
              HasSubstr("unknown field \"prefx\" in Source (fields: prefix, weight; did you mean"));
}

TEST_F(RunConfig, MegatronsOrderNeedsWhatItsArraysDependOn) {
  const std::string megatron = "data.order=MEGATRON", sequences = "eval.sequences=8";
  EXPECT_OK(Load(kGood, {megatron, sequences}));
  EXPECT_THAT(Error(kGood, {megatron}), HasSubstr("eval.sequences = 0"));
  EXPECT_THAT(
      Error(kGood, {megatron, sequences, "seed=4294967296"}),
      HasSubstr("seed = 4294967296: expected at most 4294967295 for data.order = MEGATRON"));
  EXPECT_THAT(SetError("data.skip_steps=-1"), HasSubstr("at least 0"));
  EXPECT_THAT(Error(kGood, {"eval.test=true", "data.split=90,10,0"}),
              HasSubstr("a third weight above 0 for eval.test"));
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
  EXPECT_STATUS(CheckRunConfig(run, "manifest"), kInvalidArgument, "manifest: steps is not given");
}

TEST_F(RunConfig, EveryConfigOfTheRepositoryLoads) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(UNIPOOL_CONFIGS)) {
    if (entry.path().extension() != ".textproto") continue;
    const auto run = LoadRunConfig(entry.path().string(), {});
    ASSERT_OK(run);
    EXPECT_OK(CheckRunConfig(*run, entry.path().string()));
    ++files;
  }
  EXPECT_GE(files, 38);
}

}  // namespace
}  // namespace unipool
