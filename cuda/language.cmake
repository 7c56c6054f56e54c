# Included at the top level, so that every folder can link CUDA code.
# CMake 3.25 does not know how NVIDIA's compiler spells C++20.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  # sm_90a for Hopper's own kernels, sm_80 for the rest of 8.x, and compute_80 PTX for everything later; with
  # CUDA_FORCE_PTX_JIT=1 the PTX runs on any of them.
  set(CMAKE_CUDA_ARCHITECTURES "90a-real;80" CACHE STRING "CUDA architectures" FORCE)
endif()
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
enable_language(CUDA)
if(NOT "cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
