# Searches for the CUDA toolkit, NCCL and cuDNN as the options UNIPOOL_WITH_CUDA, UNIPOOL_WITH_NCCL
# and UNIPOOL_WITH_CUDNN request, and prints a line for each. Sets UNIPOOL_HAVE_CUDA (kernels are
# compiled, for a GPU or for the emulator), UNIPOOL_EMULATES_CUDA, UNIPOOL_HAVE_NCCL and
# UNIPOOL_HAVE_CUDNN. Defines unipool_cuda_sources, which adds kernels to a library.
set(UNIPOOL_HAVE_CUDA FALSE)
set(UNIPOOL_EMULATES_CUDA FALSE)
set(UNIPOOL_HAVE_NCCL FALSE)
set(UNIPOOL_HAVE_CUDNN FALSE)

# unipool_report(NAME FOUND WHAT EXPECTED): prints the line of a library. WHAT describes what was
# found; EXPECTED is named in the error if a required library is missing.
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

if(NOT UNIPOOL_WITH_CUDA MATCHES "^(AUTO|ON|OFF|EMULATE)$")
  message(FATAL_ERROR "UNIPOOL_WITH_CUDA=${UNIPOOL_WITH_CUDA}: expected AUTO, ON, OFF or EMULATE")
endif()
foreach(library NCCL CUDNN)
  if(NOT UNIPOOL_WITH_${library} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR
      "UNIPOOL_WITH_${library}=${UNIPOOL_WITH_${library}}: expected AUTO, ON or OFF")
  endif()
  if(UNIPOOL_WITH_CUDA MATCHES "^(OFF|EMULATE)$" AND UNIPOOL_WITH_${library} STREQUAL "ON")
    message(FATAL_ERROR
      "UNIPOOL_WITH_${library}=ON needs CUDA: expected UNIPOOL_WITH_CUDA=AUTO or ON")
  endif()
endforeach()

# nvcc is often on the PATH of login shells only, so the usual folders are searched too. The stub of
# the driver (CUDA::cuda_driver) is never linked, because a program linked with it does not start on
# a machine without a driver.
if(UNIPOOL_WITH_CUDA MATCHES "^(AUTO|ON)$")
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
if(UNIPOOL_HAVE_CUDA)
  set(CMAKE_CUDA_COMPILER ${NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${UNIPOOL_CUDA_ARCHITECTURES})
  # The static runtime needs no library at run time, so the same program starts on machines with and
  # without a driver.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  # CMake before 3.26 lacks nvcc's flag for C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -lineinfo")
endif()
if(UNIPOOL_WITH_CUDA STREQUAL "EMULATE")
  set(UNIPOOL_HAVE_CUDA TRUE)
  set(UNIPOOL_EMULATES_CUDA TRUE)
endif()
if(UNIPOOL_EMULATES_CUDA)
  set(cuda_found "emulated on the CPU, for tests")
else()
  set(cuda_found "${CUDAToolkit_VERSION}, ${NVCC}, for ${UNIPOOL_CUDA_ARCHITECTURES}")
endif()
unipool_report(CUDA ${UNIPOOL_HAVE_CUDA} "${cuda_found}"
  "nvcc with the toolkit's libraries on PATH, in CUDA_HOME or in /usr/local/cuda")

# unipool_cuda_sources(target a_cuda.cu b_cuda.cc ...): adds sources to a target. Does nothing
# without CUDA; for the emulator, compiles them as C++. The report of ptxas on each kernel
# (registers, spills, shared memory) is kept beside the object file as NAME.ptxas, for
# tools/kernel_resources.py.
function(unipool_cuda_sources target)
  if(NOT UNIPOOL_HAVE_CUDA)
    return()
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  if(UNIPOOL_EMULATES_CUDA)
    set(kernels ${ARGN})
    list(FILTER kernels INCLUDE REGEX "[.]cu$")
    set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX SKIP_PRECOMPILE_HEADERS ON
      COMPILE_OPTIONS "-xc++;-Wno-unknown-pragmas;-Wno-uninitialized;-Wno-maybe-uninitialized")
    target_link_libraries(${target} PUBLIC unipool_cuda_emulator)
  else()
    # Appending keeps an empty CMAKE_CUDA_COMPILER_LAUNCHER from becoming an empty argument.
    set_target_properties(${target} PROPERTIES CUDA_COMPILER_LAUNCHER
      "${CMAKE_SOURCE_DIR}/tools/keep_ptxas.sh")
    set_property(TARGET ${target} APPEND PROPERTY CUDA_COMPILER_LAUNCHER
      ${CMAKE_CUDA_COMPILER_LAUNCHER})
    target_include_directories(${target} PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
    target_link_libraries(${target} PUBLIC CUDA::cudart_static)
  endif()
endfunction()

# Only the header is needed: the program loads the library at run time. With the emulator, NCCL is
# emulated too.
if(UNIPOOL_WITH_NCCL AND UNIPOOL_EMULATES_CUDA)
  set(NCCL_INCLUDE_DIR ${CMAKE_SOURCE_DIR}/tests/support/fake_nccl)
  set(UNIPOOL_HAVE_NCCL TRUE)
elseif(UNIPOOL_WITH_NCCL AND UNIPOOL_HAVE_CUDA)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} $ENV{NCCL_HOME}/include)
  if(NCCL_INCLUDE_DIR)
    set(UNIPOOL_HAVE_NCCL TRUE)
  endif()
endif()
unipool_report(NCCL ${UNIPOOL_HAVE_NCCL} "${NCCL_INCLUDE_DIR}/nccl.h"
  "CUDA, and nccl.h beside it or in NCCL_HOME")

# The headers of cuDNN come with the toolkit or with a Python package, those of its front-end with
# the Python package nvidia-cudnn-frontend. If that package is unpacked but not installed,
# CUDNN_FRONTEND_HOME names its folder. The program loads cuDNN at run time.
if(UNIPOOL_WITH_CUDNN AND UNIPOOL_HAVE_CUDA AND NOT UNIPOOL_EMULATES_CUDA)
  execute_process(COMMAND python3 -c "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    OUTPUT_VARIABLE python_packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS $ENV{CUDNN_FRONTEND_HOME}/include
    ${python_packages}/include ${CUDAToolkit_INCLUDE_DIRS})
  find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS $ENV{CUDNN_HOME}/include ${CUDAToolkit_INCLUDE_DIRS}
    ${python_packages}/nvidia/cudnn/include)
  if(CUDNN_FRONTEND_INCLUDE_DIR)
    file(STRINGS ${CUDNN_FRONTEND_INCLUDE_DIR}/cudnn_frontend_version.h cudnn_frontend_version
      REGEX "define CUDNN_FRONTEND_(MAJOR|MINOR)_VERSION +[0-9]+")
    string(REGEX MATCHALL "[0-9]+" cudnn_frontend_version "${cudnn_frontend_version}")
    list(JOIN cudnn_frontend_version "." cudnn_frontend_version)
  endif()
  if(CUDNN_INCLUDE_DIR AND cudnn_frontend_version VERSION_GREATER_EQUAL 1.22)
    set(UNIPOOL_HAVE_CUDNN TRUE)
    add_library(unipool_cudnn_frontend INTERFACE)
    target_include_directories(unipool_cudnn_frontend SYSTEM INTERFACE
      ${CUDNN_FRONTEND_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
    target_compile_definitions(unipool_cudnn_frontend INTERFACE
      NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING CUDNN_FRONTEND_SKIP_JSON_LIB)
  endif()
endif()
unipool_report(CUDNN ${UNIPOOL_HAVE_CUDNN}
  "${CUDNN_INCLUDE_DIR}/cudnn.h, front-end ${cudnn_frontend_version} in ${CUDNN_FRONTEND_INCLUDE_DIR}"
  "CUDA, cudnn.h beside it or in CUDNN_HOME, and the headers of its front-end 1.22 or later in \
CUDNN_FRONTEND_HOME or from 'pip install nvidia-cudnn-frontend'")
