"""Names of modules and functions."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Keywords of C99, C11, C23 and C++ up to 26, and what the standards reserve beside them in every file.
_C_WORDS = _words(
    """
    alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break case
    catch char char8_t char16_t char32_t class co_await co_return co_yield compl complex concept const const_cast
    consteval constexpr constinit continue contract_assert decltype default delete do double dynamic_cast else enum
    explicit export
    extern false final float for fortran friend goto if imaginary import inline int linux long main module mutable
    namespace new noexcept noreturn not not_eq nullptr operator or or_eq override private protected public register
    reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast std struct switch
    synchronized template this thread_local throw true try typedef typeid typename typeof typeof_unqual union unix
    unsigned using virtual void volatile wchar_t while xor xor_eq
    """
)

# Functions, types and macros of the C library: external names of the library are reserved whatever is included, and
# compilers know many of them.
_C_LIBRARY = _words(
    """
    EOF FILE I NULL BUFSIZ CLOCKS_PER_SEC EDOM EILSEQ ERANGE EXIT_FAILURE EXIT_SUCCESS HUGE_VAL HUGE_VALF HUGE_VALL
    INFINITY NAN RAND_MAX DIR aligned_alloc posix_memalign strnlen abort abs acos acosh alloca clog10 dcgettext
    dgettext execl execle execlp execv execve execvp finite gettext gamma_r gammaf_r gammal_r iseqsig issignaling
    lgamma_r lgammaf_r lgammal_r nans pow10 roundeven strlcat strlcpy asctime asin asinh assert at_quick_exit atan
    atan2 atanh atexit atof atoi atol atoll bcmp bcopy bsearch btowc bzero cabs cacos cacosh calloc carg casin
    casinh catan catanh cbrt ccos ccosh ceil cexp cimag clearerr clock clog conj copysign cos cosh cpow cproj creal
    csin csinh csqrt ctan ctanh ctime difftime div div_t drem erf erfc errno exit exp exp10 exp2 expm1 fabs fclose
    fdim feclearexcept fegetenv fegetexceptflag fegetround feholdexcept fenv_t feof feraiseexcept ferror fesetenv
    fesetexceptflag fesetround fetestexcept feupdateenv fexcept_t fflush ffs ffsl ffsll fgetc fgetpos fgets fgetwc
    fgetws floor fma fmax fmin fmod fopen fork fpclassify fpos_t fprintf fputc fputs fputwc fputws fread free
    freopen frexp fscanf fseek fsetpos ftell fwide fwprintf fwrite fwscanf gamma getc getchar getenv gets getwc
    getwchar gmtime hypot ilogb imaxabs imaxdiv index isalnum isalpha isascii isblank iscntrl isdigit isfinite
    isgraph isgreater isgreaterequal isinf isless islessequal islessgreater islower isnan isnormal isprint ispunct
    isspace isunordered isupper iswalnum iswalpha iswblank iswcntrl iswctype iswdigit iswgraph iswlower iswprint
    iswpunct iswspace iswupper iswxdigit isxdigit j0 j1 jn jmp_buf kill labs ldexp ldiv lgamma llabs lldiv llrint
    llround localeconv localtime log log10 log1p log2 logb longjmp lrint lround malloc max_align_t mblen mbrlen
    mbrtowc mbsinit mbsrtowcs mbstowcs mbtowc memccpy memchr memcmp memcpy memmove mempcpy memset mktime modf nan
    nearbyint nextafter nexttoward offsetof perror pow printf ptrdiff_t putc putchar puts putwc putwchar qsort
    quick_exit raise rand read realloc remainder remove remquo rename rewind rindex rint round scalb scalbln scalbn
    scanf setbuf setjmp setlocale setvbuf signal signbit significand sig_atomic_t sin sincos sinh size_t snprintf
    sprintf sqrt srand sscanf stderr stdin stdout stpcpy stpncpy strcasecmp strcat strchr strcmp strcoll strcpy
    strcspn strdup strerror strfmon strftime strlen strncasecmp strncat strncmp strncpy strndup strpbrk strrchr
    strspn strstr strtod strtof strtoimax strtok strtol strtold strtoll strtoul strtoull strtoumax strxfrm swprintf
    swscanf system tan tanh tgamma time time_t timespec_get tm tmpfile tmpnam toascii tolower toupper towctrans
    towlower towupper trunc ungetc ungetwc va_arg va_copy va_end va_list va_start vfork vfprintf vfscanf vfwprintf
    vfwscanf vprintf vscanf vsnprintf vsprintf vsscanf vswprintf vswscanf vwprintf vwscanf wcrtomb wcscat wcschr
    wcscmp wcscoll wcscpy wcscspn wcsftime wcslen wcsncat wcsncmp wcsncpy wcspbrk wcsrchr wcsrtombs wcsspn wcsstr
    wcstod wcstof wcstoimax wcstok wcstol wcstold wcstoll wcstombs wcstoul wcstoull wcstoumax wcsxfrm wctob wctomb
    wctrans wctrans_t wctype wctype_t wint_t wmemchr wmemcmp wmemcpy wmemmove wmemset wprintf write wscanf y0 y1 yn
    call_once free_aligned_sized free_sized memalignment memset_explicit nullptr_t thrd_t tss_t unreachable
    """
)

# Of stdint.h and its neighbours; functions of mathematics for float and long double; what the function itself and its
# test program use.
_C_PATTERN = re.compile(
    r"""
      u?int\w*_t | U?INT\w*(_MAX|_MIN|_C|_WIDTH) | (SIZE|PTRDIFF|SIG_ATOMIC|WCHAR|WINT)_(MAX|MIN|WIDTH)
    | (S?CHAR|SHRT|LONG|LLONG|UCHAR|USHRT|ULONG|ULLONG|MB_LEN|CHAR)_(MAX|MIN|BIT|WIDTH) | (PRI|SCN)\w+
    | stdc_\w+ | n\d+ | [axys] | codes | words | rows | port | missing
    | inputs | outputs | found | row | same | differences
    """,
    re.VERBOSE,
)

_VERILOG_WORDS = _words(
    """
    always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default defparam
    design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive endspecify
    endtable endtask event for force forever fork function generate genvar highz0 highz1 if ifnone incdir include
    initial inout input instance integer join large liblist library localparam macromodule medium module nand
    negedge nmos nor noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1
    pulldown pullup pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat rnmos rpmos rtran
    rtranif0 rtranif1 scalared showcancelled signed small specify specparam strong0 strong1 supply0 supply1 table
    task time tran tranif0 tranif1 tri tri0 tri1 triand trior trireg unsigned use uwire vectored wait wand weak0
    weak1 while wire wor xnor xor
    """
)

# What IEEE 1800 adds up to 2023.
_SYSTEM_VERILOG_WORDS = _words(
    """
    accept_on alias always_comb always_ff always_latch assert assume before bind bins binsof bit break byte chandle
    checker class clocking const constraint context continue cover covergroup coverpoint cross dist do endchecker
    endclass endclocking endgroup endinterface endpackage endprogram endproperty endsequence enum eventually expect
    export extends extern final first_match foreach forkjoin global iff ignore_bins illegal_bins implements implies
    import inside int interconnect interface intersect join_any join_none let local logic longint matches modport
    nettype new nexttime null package packed priority program property protected pure rand randc randcase
    randsequence ref reject_on restrict return s_always s_eventually s_nexttime s_until s_until_with sequence
    shortint shortreal soft solve static std string strong struct super sync_accept_on sync_reject_on tagged this
    throughout timeprecision timeunit type typedef union unique unique0 until until_with untyped var virtual void
    wait_order weak wildcard with within
    """
)
# Ports, wires and registers of the module, what reads the unused ones, and its test bench.
_VERILOG_PATTERN = re.compile(r"[xy]\d+|n\d+(_\w+)?|r\d+_\w+|unused|testbench")


def _of_the_library(name: str) -> bool:
    """Return whether a name is of the C library, as it is or with the suffix of a type or a variant."""
    return name in _C_LIBRARY or re.sub(r"([fd]\d+x?|[fl]|imax|_unlocked)$", "", name) in _C_LIBRARY


def check_c_name(name: Any) -> None:
    """Raise ValueError unless a name is one for a function in C and in C++."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise _no_identifier(name, "C")
    taken = _of_the_library(name) or _C_PATTERN.fullmatch(name) or "__" in name
    _refuse(name, "C", _C_WORDS, taken=bool(taken))


def check_verilog_names(name: Any, clock: Any, enable: Any) -> None:
    """Raise ValueError unless names are ones for a module and its ports in Verilog and SystemVerilog.

    There may be no enable, None.
    """
    taken: dict[str, str] = {}
    for what, text in (("name", name), ("clock", clock), ("enable", enable)):
        if text is None and what == "enable":
            continue
        _check_verilog_name(text, what)
        if text in taken:
            raise ValueError(f"{what} must differ from {taken[text]}, got {text!r} for both.")
        taken[text] = what


def _check_verilog_name(text: Any, what: str) -> None:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise _no_identifier(text, "Verilog", what)
    words = _VERILOG_WORDS | _SYSTEM_VERILOG_WORDS
    _refuse(text, "Verilog", words, taken=_VERILOG_PATTERN.fullmatch(text) is not None, what=what)


def comment_text(text: str) -> str:
    """Return a text as it can stand in a comment of C or Verilog: in one line, without the marks of comments."""
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return re.sub(r"(?<=\*)(?=/)|(?<=/)(?=[*/])", " ", printable)


def _no_identifier(name: Any, language: str, what: str = "name") -> ValueError:
    return ValueError(f"{what} must be a {language} identifier, got {name!r}; take letters, digits and underscores.")


def _refuse(name: str, language: str, words: Container[str], *, taken: bool, what: str = "name") -> None:
    if name in words:
        raise ValueError(f"{what} must not be a reserved word of {language}, got {name!r}; take e.g. '{name}_0'.")
    if taken:
        raise ValueError(
            f"{what} must not be one that {language} or the generated code uses, got {name!r}; take e.g. "
            f"'{_FREE.get(what, 'model')}'."
        )


_FREE = {"clock": "clk", "enable": "ce"}
