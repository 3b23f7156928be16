#include "launch/commands/command_line.h"

#include "launch/config/nearest_name.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CommandSpec TrainSpec() {
  return {.flags = {{.name = "config", .value = "FILE", .help = "the run"},
                    {.name = "set", .value = "FIELD=VALUE", .help = "", .is_repeated = true},
                    {.name = "steps", .value = "N", .help = "how many"},
                    {.name = "quiet", .value = "", .help = "prints less"}},
          .arguments = {"[FOLDER]"}};
}

absl::StatusOr<CommandLine> Parse(const std::vector<std::string>& args) {
  return CommandLine::Parse(args, TrainSpec());
}

TEST(CommandLine, TakesValuesBehindASpaceOrAnEqualsSign) {
  const auto line = Parse({"--config", "a", "--set=x=1", "--set", "y=2", "out", "--quiet"});
  ASSERT_OK(line);
  EXPECT_EQ(line->Value("config", ""), "a");
  EXPECT_THAT(line->Values("set"), ElementsAre("x=1", "y=2"));
  EXPECT_TRUE(line->Has("quiet"));
  EXPECT_THAT(line->arguments(), ElementsAre("out"));
}

TEST(CommandLine, WithoutFlagsGivesWhatTheCallerSays) {
  const auto line = Parse({});
  ASSERT_OK(line);
  EXPECT_EQ(line->Value("config", "default"), "default");
  EXPECT_EQ(line->Integer("steps", 7, 1).value(), 7);
  EXPECT_FALSE(line->Has("quiet"));
  EXPECT_THAT(line->arguments(), IsEmpty());
}

TEST(CommandLine, TwoDashesEndTheFlags) {
  const auto line = Parse({"--", "--quiet"});
  ASSERT_OK(line);
  EXPECT_FALSE(line->Has("quiet"));
  EXPECT_THAT(line->arguments(), ElementsAre("--quiet"));
}

TEST(CommandLine, AValueMayBeEmptyOrNegative) {
  const auto line = Parse({"--config=", "--steps", "-3"});
  ASSERT_OK(line);
  EXPECT_TRUE(line->Has("config"));
  EXPECT_EQ(line->Value("config", "default"), "");
  EXPECT_EQ(line->Integer("steps", 0, -5).value(), -3);
}

TEST(CommandLine, MisuseIsOneLineThatNamesTheFlag) {
  EXPECT_STATUS(Parse({"--stesp", "3"}), kInvalidArgument,
                "--stesp: unknown flag (did you mean \"--steps\"?)");
  EXPECT_STATUS(Parse({"-q"}), kInvalidArgument, "-q: unknown flag");
  EXPECT_STATUS(Parse({"--zzzzzzzz=1"}), kInvalidArgument, "--zzzzzzzz: unknown flag");
  EXPECT_STATUS(Parse({"--config"}), kInvalidArgument,
                "--config: value missing; give --config FILE");
  EXPECT_STATUS(Parse({"--config", "--quiet"}), kInvalidArgument, "--config: value missing");
  EXPECT_STATUS(Parse({"--quiet=1"}), kInvalidArgument, "--quiet=1: --quiet takes no value");
  EXPECT_STATUS(Parse({"--steps=1", "--steps=2"}), kInvalidArgument, "--steps: given twice");
  EXPECT_STATUS(Parse({"a", "b"}), kInvalidArgument, "\"b\": unexpected argument");
}

TEST(CommandLine, IntegersAreCheckedAgainstTheLeast) {
  for (const std::string value : {"abc", "0", "1.5", "", "99999999999999999999"}) {
    const auto line = Parse({"--steps=" + value});
    ASSERT_OK(line);
    EXPECT_STATUS(line->Integer("steps", 1, 1), kInvalidArgument,
                  "--steps=" + value + ": expected an integer of at least 1");
  }
}

TEST(CommandLine, UsageNamesEveryFlag) {
  const std::string usage = UsageText("unipool train", TrainSpec());
  EXPECT_EQ(usage,
            "usage: unipool train [FOLDER] [flags]\n"
            "  --config FILE      the run\n"
            "  --set FIELD=VALUE  (may be given several times)\n"
            "  --steps N          how many\n"
            "  --quiet            prints less\n");
}

TEST(NearestName, FindsTyposAndLeavesStrangersAlone) {
  const std::vector<std::string> names = {"vocab", "hidden", "layers", "kv_heads", "NORM"};
  EXPECT_EQ(NearestName("hiden", names), "hidden");
  EXPECT_EQ(NearestName("num_layers", names), "layers");
  EXPECT_EQ(NearestName("norm", names), "NORM");
  EXPECT_EQ(NearestName("temperature", names), "");
  EXPECT_EQ(NearestName("x", {}), "");
}

}  // namespace
}  // namespace unipool
