# Precompiles headers that most sources include; without this they take half of the compile time.
# With OFF every source is compiled with its own includes only, which finds missing includes
# (tools/check.sh --all does this).
option(UNIPOOL_PRECOMPILE "precompile headers that most sources include" ON)

set(unipool_common_headers <algorithm> <functional> <memory> <string> <utility> <vector>
  <glog/logging.h> <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h>)

# unipool_precompile(TARGET GROUP [header ...]): TARGET uses the precompiled headers of GROUP. The
# first target of a group compiles them; all targets of a group have the same compile options.
function(unipool_precompile target group)
  if(NOT UNIPOOL_PRECOMPILE)
    return()
  endif()
  get_property(owner GLOBAL PROPERTY unipool_precompiled_${group})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    set_property(GLOBAL PROPERTY unipool_precompiled_${group} ${target})
    target_precompile_headers(${target} PRIVATE ${unipool_common_headers} ${ARGN})
  endif()
endfunction()
