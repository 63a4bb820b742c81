//! The reserved string of C_Initialize: the one thing that a safe interface does not offer.
//!
//! PKCS#11 says that `pReserved` is NULL; NSS softokn reads a parameter string there, and is useless without.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr::NonNull;

use cryptoki::context::{CInitializeArgs, CInitializeFlags};

/// Arguments for C_Initialize with locking by the operating system, and this reserved string if there is one.
/// `None` when the string has a NUL in it.
pub fn initialize_args(reserved: Option<&str>) -> Option<CInitializeArgs> {
    let flags = CInitializeFlags::OS_LOCKING_OK;
    let Some(reserved) = reserved else {
        return Some(CInitializeArgs::new(flags));
    };
    // Never freed: a module may keep the pointer for as long as it is loaded. A worker comes here a few times in its
    // life.
    let pointer = NonNull::new(CString::new(reserved).ok()?.into_raw())?;
    // SAFETY: the pointer is to a NUL-terminated string that lives until the process ends; the module that is named in
    // the configuration is trusted to read `pReserved` as the string that is configured with it.
    Some(unsafe { CInitializeArgs::new_with_reserved(flags, pointer.cast()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_that_c_would_cut_off_is_refused() {
        assert!(initialize_args(None).is_some());
        assert!(initialize_args(Some("configdir='sql:/x'")).is_some());
        assert!(initialize_args(Some("configdir='sql:/x'\0flags=")).is_none());
    }
}
