# Writes build_info.cc, the values of launch/world/version.h, at each build. The file is rewritten
# only when its text changes, so that nothing else is compiled after a commit.
# usage: cmake -DSOURCE=FOLDER -DOUTPUT=FILE -DVERSION=V -DCOMPILER=C -DOPTIONS=O -P build_info.cmake
set(revision unknown)
set(is_dirty false)
find_program(GIT git)
if(GIT)
  # A source archive may be unpacked inside another project's checkout: its revision is not ours.
  execute_process(COMMAND ${GIT} rev-parse --show-toplevel WORKING_DIRECTORY ${SOURCE}
    OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(REAL_PATH ${SOURCE} source)
  if(top STREQUAL source)
    execute_process(COMMAND ${GIT} rev-parse --short=12 HEAD WORKING_DIRECTORY ${SOURCE}
      OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    execute_process(COMMAND ${GIT} --no-optional-locks status --porcelain --untracked-files=no
      WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE changes ERROR_QUIET)
    if(failed)
      set(revision unknown)
    elseif(NOT changes STREQUAL "")
      set(is_dirty true)
    endif()
  endif()
endif()
set(text "// Written by tools/build_info.cmake.
#include \"launch/world/version.h\"

namespace unipool {

const BuildInfo kBuildInfo = {
    .version = \"${VERSION}\",
    .revision = \"${revision}\",
    .is_dirty = ${is_dirty},
    .compiler = \"${COMPILER}\",
    .options = \"${OPTIONS}\"};

}  // namespace unipool
")
set(old "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
