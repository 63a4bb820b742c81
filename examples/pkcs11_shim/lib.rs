//! A PKCS#11 module that goes wrong on order: it forwards to the real module and injects what tests ask for.
//!
//! Built for tests only (`cargo build --example pkcs11_shim`), never a part of the product. The environment variable
//! PKCS11_SHIM_CONTROL names a directory: `orders` says what goes wrong (grammar: `orders.rs`), `counters` counts
//! calls over all worker processes, `journal` lists every signature that was made. There is no C_GetInterface, so
//! that nothing reaches the real module past the shim.

mod calls;
mod codes;
mod control;
mod counters;
mod device;
mod orders;

use std::path::PathBuf;
use std::sync::OnceLock;

use cryptoki_sys::{CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR_PTR, CK_RV, CKR_ARGUMENTS_BAD, CKR_OK};

use device::Device;

/// The real module behind its control directory, and the table that callers get.
struct Shim {
    device: Device,
    list: CK_FUNCTION_LIST,
}

static SHIM: OnceLock<Shim> = OnceLock::new();

fn shim() -> &'static Shim {
    SHIM.get_or_init(|| {
        let directory = std::env::var_os("PKCS11_SHIM_CONTROL").map(PathBuf::from);
        let Some(directory) = directory else { stop("PKCS11_SHIM_CONTROL names no control directory") };
        let device = Device::open(directory).unwrap_or_else(|why| stop(&why));
        let list = calls::patched(device.real);
        Shim { device, list }
    })
}

/// A shim that cannot do as it is told must not let a test pass.
fn stop(why: &str) -> ! {
    eprintln!("pkcs11_shim: {why}");
    std::process::abort()
}

/// The one entry of a PKCS#11 module (v2.40, 5.2).
///
/// # Safety
/// `list` is null or points to a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    // SAFETY: not null, so the caller's place for a pointer; the table lives as long as the process and nobody
    // writes to it.
    unsafe { *list = (&raw const shim().list).cast_mut() };
    CKR_OK
}
