# The toolchain for Windows: Clang with the GNU ABI, its libc++ linked in, out of the package `ziglang` on PyPI. It is the
# same on Windows as on a system that builds for it, so what is tried there is what is shipped.
if(NOT CMAKE_HOST_WIN32)
  set(CMAKE_SYSTEM_NAME Windows)
  set(CMAKE_SYSTEM_PROCESSOR AMD64)
endif()
find_program(MINIVAULT_ZIG NAMES python-zig zig REQUIRED)
set(CMAKE_CXX_COMPILER ${MINIVAULT_ZIG} c++)
set(CMAKE_CXX_COMPILER_TARGET x86_64-windows-gnu)
# Zig adds debug symbols unless told not to.
set(CMAKE_CXX_FLAGS_INIT -g0)
set(CMAKE_MODULE_LINKER_FLAGS_INIT -s)
