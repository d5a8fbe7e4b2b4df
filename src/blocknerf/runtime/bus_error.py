"""The message when another program truncates a memory-mapped file, or its disk fails.

The system then sends SIGBUS to the thread that reads, wherever it is: in numpy, in a kernel, with or without Python's
lock. No Python may run there, so the handler is machine code that makes two system calls.
"""

import ctypes
import faulthandler
import signal

_TO_MESSAGES, _EXIT_CODE = 2, 2
_KEPT: list[object] = []
"""What a handler uses must live as long as the process."""

_HANDLER = """
declare i64 @write(i32, i64, i64)
declare void @_exit(i32)
define void @say_and_leave(i32 %number) {{
  call i64 @write(i32 {to}, i64 {address}, i64 {length})
  call void @_exit(i32 {code})
  ret void
}}
"""


def on_bus_error(sentence: str) -> None:
    """From now on SIGBUS ends the process with this sentence and exit code 2.

    If Python's faulthandler is on, nothing changes, because its stacks are wanted.
    """
    if faulthandler.is_enabled():
        return
    from llvmlite import binding as llvm  # of numba

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    text = f"\nblocknerf: {sentence}\n".encode(errors="surrogateescape")  # names may be bytes that are no text
    line = ctypes.create_string_buffer(text)
    address, length = ctypes.addressof(line), len(line) - 1
    module = llvm.parse_assembly(_HANDLER.format(to=_TO_MESSAGES, address=address, length=length, code=_EXIT_CODE))
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(module, machine)
    _KEPT.extend((line, engine))
    ctypes.CDLL(None).signal(int(signal.SIGBUS), ctypes.c_void_p(engine.get_function_address("say_and_leave")))
