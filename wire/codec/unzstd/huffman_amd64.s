//go:build !purego

#include "textflag.h"
#include "go_asm.h"

// SYMBOL decodes one symbol of the stream in acc to out.
#define SYMBOL(acc, out) \
	SHRXQ   DX, acc, AX;      \
	MOVWLZX (BX)(AX*2), AX;   \
	SHLXQ   AX, acc, acc;     \
	MOVB    AH, out

#define ROUND(n) \
	SYMBOL(R8, n(DI));         \
	SYMBOL(R9, n(DI)(SI*1));   \
	SYMBOL(R10, n(DI)(SI*2));  \
	SYMBOL(R11, n(DI)(BP*1))

// LOAD moves at back by the bytes that were read and fills acc.
#define LOAD(acc, at) \
	TZCNTQ acc, AX;     \
	MOVL   AX, CX;      \
	SHRL   $3, CX;      \
	ANDL   $7, AX;      \
	SUBQ   CX, at;      \
	MOVQ   (at), acc;   \
	ORQ    $1, acc;     \
	SHLXQ  AX, acc, acc

// func fourBMI2(f *fourLoop, table *uint16, dst, src *byte)
//
// R8 to R11 the bits of the streams, R12 to R15 where they were loaded, DI
// where the first quarter goes, SI and BP a quarter and three of them.
TEXT ·fourBMI2(SB), NOSPLIT, $8-32
	MOVQ f+0(FP), AX
	MOVQ table+8(FP), BX
	MOVQ dst+16(FP), DI
	MOVQ src+24(FP), CX
	MOVQ fourLoop_acc+0(AX), R8
	MOVQ fourLoop_acc+8(AX), R9
	MOVQ fourLoop_acc+16(AX), R10
	MOVQ fourLoop_acc+24(AX), R11
	MOVQ fourLoop_at+0(AX), R12
	MOVQ fourLoop_at+8(AX), R13
	MOVQ fourLoop_at+16(AX), R14
	MOVQ fourLoop_at+24(AX), R15
	ADDQ CX, R12
	ADDQ CX, R13
	ADDQ CX, R14
	ADDQ CX, R15
	ADDQ fourLoop_out(AX), DI
	MOVQ fourLoop_quarter(AX), SI
	LEAQ (SI)(SI*2), BP
	MOVQ fourLoop_shift(AX), DX
	MOVQ fourLoop_rounds(AX), CX
	MOVQ CX, rounds-8(SP)

round:
	ROUND(0)
	ROUND(1)
	ROUND(2)
	ROUND(3)
	ROUND(4)
	LOAD(R8, R12)
	LOAD(R9, R13)
	LOAD(R10, R14)
	LOAD(R11, R15)
	ADDQ $const_symbolsARound, DI
	DECQ rounds-8(SP)
	JNZ  round

	MOVQ f+0(FP), AX
	MOVQ src+24(FP), CX
	SUBQ CX, R12
	SUBQ CX, R13
	SUBQ CX, R14
	SUBQ CX, R15
	MOVQ R8, fourLoop_acc+0(AX)
	MOVQ R9, fourLoop_acc+8(AX)
	MOVQ R10, fourLoop_acc+16(AX)
	MOVQ R11, fourLoop_acc+24(AX)
	MOVQ R12, fourLoop_at+0(AX)
	MOVQ R13, fourLoop_at+8(AX)
	MOVQ R14, fourLoop_at+16(AX)
	MOVQ R15, fourLoop_at+24(AX)
	SUBQ dst+16(FP), DI
	MOVQ DI, fourLoop_out(AX)
	RET
