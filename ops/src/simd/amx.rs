//! Tiles: Intel's AMX, products of matrices of bf16 with sums in f32.
//!
//! A tile is a register of 16 rows of 64 bytes. One instruction adds to a tile of 16x16 sums the product of 16 rows of 32 values and
//! 32 rows of 16 values, these in pairs: row `r` of the tile has rows `2r` and `2r + 1` of the matrix side by side. Rust has no stable
//! intrinsics for it, so the loops are written out here.

use super::{Level, level};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Rows of a tile, and the columns of one of sums.
pub(crate) const ROWS: usize = 16;
/// Values of bf16 in a row of a tile: the products that one instruction sums.
pub(crate) const DEPTH: usize = 32;
/// Bytes of a row.
const ROW_BYTES: usize = 64;

/// Whether this machine has tiles, the system lends them, and the instruction set in use is that of such machines.
pub(crate) fn available() -> bool {
    static LENT: OnceLock<bool> = OnceLock::new();
    level() == Level::Avx512 && *LENT.get_or_init(|| exists() && is_lent())
}

/// Whether processor and system know tiles of bf16, and all that the code beside them is compiled for.
fn exists() -> bool {
    let vectors = is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    if !vectors || __cpuid(0).eax < 7 {
        return false;
    }
    /// Of leaf 7, EDX: AMX-BF16 and AMX-TILE.
    const TILES: u32 = 1 << 22 | 1 << 24;
    /// Of XCR0: the state of tiles is kept for every thread.
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn kept() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does, which AVX-512 implies.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: AVX-512, which was found, implies XSAVE.
    let kept = unsafe { kept() };
    __cpuid_count(7, 0).edx & TILES == TILES && kept & STATE == STATE
}

/// Asks Linux for the 8 KiB of state, for all threads of this process.
fn is_lent() -> bool {
    /// `ARCH_REQ_XCOMP_PERM`, and the component of the tiles' data.
    const REQUEST: (libc::c_long, libc::c_long) = (0x1023, 18);
    // SAFETY: the call changes nothing but what the process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST.0, REQUEST.1) == 0 }
}

/// What is done before, for each of the offsets (in `at`), whose columns are so many bytes, and behind the last one; then the operands
/// besides these.
macro_rules! over_offsets {
    (
        ($offsets:ident, $columns:ident, $bytes:literal),
        before: [$($before:literal,)*],
        each: [$($each:literal,)*],
        behind: [$($behind:literal,)*],
        $($operands:tt)*
    ) => {
        asm!(
            $($before,)*
            "test {count}, {count}",
            "jz 3f",
            "2:",
            "mov {at}, [{offsets}]",
            $($each,)*
            "add {offsets}, 8",
            "add {columns}, {bytes}",
            "dec {count}",
            "jnz 2b",
            "3:",
            $($behind,)*
            offsets = inout(reg) $offsets.as_ptr() => _,
            count = inout(reg) $offsets.len() => _,
            columns = inout(reg) $columns => _,
            bytes = const $bytes,
            at = out(reg) _,
            from = out(reg) _,
            $($operands)*
            options(nostack),
        )
    };
}

/// The tiles of this thread, all of 16 rows of 64 bytes, until it is dropped.
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// # Safety
    /// Tiles must be [`available`]; one at a time in a thread.
    pub(crate) unsafe fn take() -> Self {
        #[repr(C, align(64))]
        struct Configuration([u8; 64]);
        let mut all = Configuration([0; 64]);
        // The only palette; then bytes of a row (16 bits each) and rows of every tile.
        all.0[0] = 1;
        for tile in 0..8 {
            all.0[16 + 2 * tile] = ROW_BYTES as u8;
            all.0[48 + tile] = ROWS as u8;
        }
        // SAFETY: the machine has the instruction, says the caller, and the configuration is a sound one.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &all, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// Multiplies tiles of zeros, four in every round, and keeps nothing; the number of multiply-adds.
    pub(crate) fn products(&self, rounds: usize) -> usize {
        // SAFETY: the tiles are configured while `self` lives, and nothing else is touched.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tilezero tmm4",
                "tilezero tmm5",
                "test {count}, {count}",
                "jz 3f",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "dec {count}",
                "jnz 2b",
                "3:",
                count = inout(reg) rounds => _,
                options(nostack, nomem),
            );
        }
        rounds * 4 * ROWS * ROWS * DEPTH
    }

    /// Sums of 32 rows and 32 columns: `[2][16][32]` at `to`. Row `r` of half `i` begins `r·step` bytes behind `rows[i]`; its values are
    /// [`DEPTH`] at each of `offsets` (in bytes) from there. `columns` has two tiles for each offset.
    ///
    /// # Safety
    /// All that is said to be read or written lies in memory that may be.
    #[inline(always)]
    pub(crate) unsafe fn two_by_two(
        &self,
        rows: [*const u16; 2],
        step: usize,
        offsets: &[usize],
        columns: *const u16,
        to: *mut f32,
    ) {
        // SAFETY: the tiles are configured while `self` lives; memory is the caller's promise. There is at least one offset, or the
        // loop is not entered.
        unsafe {
            over_offsets!(
                (offsets, columns, 2048),
                before: [
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                ],
                each: [
                    "tileloadd tmm6, [{columns} + {row}]",
                    "lea {from}, [{a} + {at}]",
                    "tileloadd tmm4, [{from} + {step}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{columns} + {row} + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "lea {from}, [{b} + {at}]",
                    "tileloadd tmm5, [{from} + {step}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                ],
                behind: [
                    "add {row}, {row}",
                    "tilestored [{to} + {row}], tmm0",
                    "tilestored [{to} + {row} + 64], tmm1",
                    "tilestored [{to} + {row} + 2048], tmm2",
                    "tilestored [{to} + {row} + 2112], tmm3",
                ],
                a = in(reg) rows[0],
                b = in(reg) rows[1],
                step = in(reg) step,
                to = in(reg) to,
                row = inout(reg) ROW_BYTES => _,
            );
        }
    }

    /// Sums of 64 rows and 16 columns: `[4][16][16]` at `to`; `columns` has one tile for each offset, and all else is as of
    /// [`Tiles::two_by_two`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn four_by_one(
        &self,
        rows: [*const u16; 4],
        step: usize,
        offsets: &[usize],
        columns: *const u16,
        to: *mut f32,
    ) {
        // SAFETY: as of `two_by_two`.
        unsafe {
            over_offsets!(
                (offsets, columns, 1024),
                before: [
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                ],
                each: [
                    "tileloadd tmm4, [{columns} + {row}]",
                    "lea {from}, [{a} + {at}]",
                    "tileloadd tmm5, [{from} + {step}]",
                    "tdpbf16ps tmm0, tmm5, tmm4",
                    "lea {from}, [{b} + {at}]",
                    "tileloadd tmm6, [{from} + {step}]",
                    "tdpbf16ps tmm1, tmm6, tmm4",
                    "lea {from}, [{c} + {at}]",
                    "tileloadd tmm7, [{from} + {step}]",
                    "tdpbf16ps tmm2, tmm7, tmm4",
                    "lea {from}, [{d} + {at}]",
                    "tileloadd tmm5, [{from} + {step}]",
                    "tdpbf16ps tmm3, tmm5, tmm4",
                ],
                behind: [
                    "tilestored [{to} + {row}], tmm0",
                    "tilestored [{to} + {row} + 1024], tmm1",
                    "tilestored [{to} + {row} + 2048], tmm2",
                    "tilestored [{to} + {row} + 3072], tmm3",
                ],
                a = in(reg) rows[0],
                b = in(reg) rows[1],
                c = in(reg) rows[2],
                d = in(reg) rows[3],
                step = in(reg) step,
                to = in(reg) to,
                row = in(reg) ROW_BYTES,
            );
        }
    }

    /// Adds to sums of 48 rows and 32 columns, `[3][tile of 16 columns][16][16]`. The rows of third `i` begin, a cache line after the other, at each of
    /// `offsets` (in bytes) behind `rows[i]`; `columns` has two tiles for each offset.
    ///
    /// # Safety
    /// As of [`Tiles::two_by_two`].
    #[inline(always)]
    pub(crate) unsafe fn three_by_two(
        &self,
        rows: [*const u16; 3],
        offsets: &[usize],
        columns: *const u16,
        sums: *mut f32,
    ) {
        // SAFETY: as of `two_by_two`.
        unsafe {
            over_offsets!(
                (offsets, columns, 2048),
                before: [
                    "tileloadd tmm0, [{sums} + {row}]",
                    "tileloadd tmm1, [{sums} + {row} + 1024]",
                    "tileloadd tmm2, [{sums} + {row} + 2048]",
                    "tileloadd tmm3, [{sums} + {row} + 3072]",
                    "tileloadd tmm4, [{sums} + {row} + 4096]",
                    "tileloadd tmm5, [{sums} + {row} + 5120]",
                ],
                each: [
                    "tileloadd tmm6, [{columns} + {row}]",
                    "lea {from}, [{a} + {at}]",
                    "tileloadd tmm7, [{from} + {row}]",
                    "tdpbf16ps tmm0, tmm7, tmm6",
                    "lea {from}, [{b} + {at}]",
                    "tileloadd tmm7, [{from} + {row}]",
                    "tdpbf16ps tmm2, tmm7, tmm6",
                    "lea {from}, [{c} + {at}]",
                    "tileloadd tmm7, [{from} + {row}]",
                    "tdpbf16ps tmm4, tmm7, tmm6",
                    "tileloadd tmm6, [{columns} + {row} + 1024]",
                    "tdpbf16ps tmm5, tmm7, tmm6",
                    "lea {from}, [{b} + {at}]",
                    "tileloadd tmm7, [{from} + {row}]",
                    "tdpbf16ps tmm3, tmm7, tmm6",
                    "lea {from}, [{a} + {at}]",
                    "tileloadd tmm7, [{from} + {row}]",
                    "tdpbf16ps tmm1, tmm7, tmm6",
                ],
                behind: [
                    "tilestored [{sums} + {row}], tmm0",
                    "tilestored [{sums} + {row} + 1024], tmm1",
                    "tilestored [{sums} + {row} + 2048], tmm2",
                    "tilestored [{sums} + {row} + 3072], tmm3",
                    "tilestored [{sums} + {row} + 4096], tmm4",
                    "tilestored [{sums} + {row} + 5120], tmm5",
                ],
                a = in(reg) rows[0],
                b = in(reg) rows[1],
                c = in(reg) rows[2],
                sums = in(reg) sums,
                row = in(reg) ROW_BYTES,
            );
        }
    }

    /// Adds to sums of 48 rows and 16 columns, `[3][16][16]`; `columns` has one tile for each offset, and all else is as of
    /// [`Tiles::three_by_two`].
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn three_by_one(
        &self,
        rows: [*const u16; 3],
        offsets: &[usize],
        columns: *const u16,
        sums: *mut f32,
    ) {
        // SAFETY: as of `two_by_two`.
        unsafe {
            over_offsets!(
                (offsets, columns, 1024),
                before: [
                    "tileloadd tmm0, [{sums} + {row}]",
                    "tileloadd tmm1, [{sums} + {row} + 1024]",
                    "tileloadd tmm2, [{sums} + {row} + 2048]",
                ],
                each: [
                    "tileloadd tmm4, [{columns} + {row}]",
                    "lea {from}, [{a} + {at}]",
                    "tileloadd tmm5, [{from} + {row}]",
                    "tdpbf16ps tmm0, tmm5, tmm4",
                    "lea {from}, [{b} + {at}]",
                    "tileloadd tmm6, [{from} + {row}]",
                    "tdpbf16ps tmm1, tmm6, tmm4",
                    "lea {from}, [{c} + {at}]",
                    "tileloadd tmm7, [{from} + {row}]",
                    "tdpbf16ps tmm2, tmm7, tmm4",
                ],
                behind: [
                    "tilestored [{sums} + {row}], tmm0",
                    "tilestored [{sums} + {row} + 1024], tmm1",
                    "tilestored [{sums} + {row} + 2048], tmm2",
                ],
                a = in(reg) rows[0],
                b = in(reg) rows[1],
                c = in(reg) rows[2],
                sums = in(reg) sums,
                row = in(reg) ROW_BYTES,
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were taken; without them the system has less to save.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
