# Looks for the CUDA toolkit and for NCCL as UNIPOOL_WITH_CUDA and UNIPOOL_WITH_NCCL ask, prints a
# line for each, and sets UNIPOOL_HAVE_CUDA and UNIPOOL_HAVE_NCCL.
set(UNIPOOL_HAVE_CUDA FALSE)
set(UNIPOOL_HAVE_NCCL FALSE)

# unipool_report(CUDA found "what was found" "what was expected")
function(unipool_report name found what expected)
  if(NOT UNIPOOL_WITH_${name})
    message(STATUS "${name}: off (UNIPOOL_WITH_${name}=OFF)")
  elseif(found)
    message(STATUS "${name}: ${what}")
  elseif(UNIPOOL_WITH_${name} STREQUAL "AUTO")
    message(STATUS "${name}: not found; built without it")
  else()
    message(FATAL_ERROR "UNIPOOL_WITH_${name}=${UNIPOOL_WITH_${name}}, but ${name} was not found: "
      "expected ${expected}")
  endif()
endfunction()

foreach(name CUDA NCCL)
  if(NOT UNIPOOL_WITH_${name} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "UNIPOOL_WITH_${name}=${UNIPOOL_WITH_${name}}: expected AUTO, ON or OFF")
  endif()
endforeach()
if(UNIPOOL_WITH_CUDA STREQUAL "OFF" AND UNIPOOL_WITH_NCCL STREQUAL "ON")
  message(FATAL_ERROR "UNIPOOL_WITH_NCCL=ON needs CUDA: expected UNIPOOL_WITH_CUDA=AUTO or ON")
endif()

# nvcc is often on PATH of login shells only, so the usual places are looked at by name. The
# driver's stub (CUDA::cuda_driver) is never linked: such a program does not start without a driver.
if(UNIPOOL_WITH_CUDA)
  find_program(NVCC nvcc HINTS $ENV{CUDACXX} $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin
    /usr/local/cuda/bin)
  if(NVCC)
    get_filename_component(cuda_bin ${NVCC} REALPATH)
    get_filename_component(cuda_bin ${cuda_bin} DIRECTORY)
    get_filename_component(CUDAToolkit_ROOT ${cuda_bin} DIRECTORY)
    find_package(CUDAToolkit QUIET)
  endif()
  if(NVCC AND CUDAToolkit_FOUND AND TARGET CUDA::cublasLt)
    set(UNIPOOL_HAVE_CUDA TRUE)
  endif()
endif()
unipool_report(CUDA ${UNIPOOL_HAVE_CUDA} "${CUDAToolkit_VERSION}, ${NVCC}"
  "nvcc with the toolkit's libraries on PATH, in CUDA_HOME or in /usr/local/cuda")

if(UNIPOOL_WITH_NCCL AND UNIPOOL_HAVE_CUDA)
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} $ENV{NCCL_HOME}/lib)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} $ENV{NCCL_HOME}/include)
  if(NCCL_LIBRARY AND NCCL_INCLUDE_DIR)
    set(UNIPOOL_HAVE_NCCL TRUE)
  endif()
endif()
unipool_report(NCCL ${UNIPOOL_HAVE_NCCL} "${NCCL_LIBRARY}"
  "CUDA, and libnccl and nccl.h beside it or in NCCL_HOME")
