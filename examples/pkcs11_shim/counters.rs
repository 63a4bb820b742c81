//! The places of the shared counter file: 64-bit words in the machine's order, the same for every worker process.
//!
//! The shim maps the file; the suite reads it. It outlives every worker, so that the n-th call is counted over
//! crashes and respawns.

/// Functions whose calls are counted and can be made to fail.
pub const FUNCTIONS: &[&str] = &[
    "C_Initialize",
    "C_Finalize",
    "C_GetInfo",
    "C_GetSlotList",
    "C_GetSlotInfo",
    "C_GetTokenInfo",
    "C_GetMechanismList",
    "C_GetMechanismInfo",
    "C_InitToken",
    "C_InitPIN",
    "C_OpenSession",
    "C_CloseSession",
    "C_CloseAllSessions",
    "C_GetSessionInfo",
    "C_Login",
    "C_Logout",
    "C_CreateObject",
    "C_CopyObject",
    "C_DestroyObject",
    "C_GetAttributeValue",
    "C_SetAttributeValue",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_EncryptInit",
    "C_Encrypt",
    "C_DecryptInit",
    "C_Decrypt",
    "C_SignInit",
    "C_Sign",
    "C_VerifyInit",
    "C_Verify",
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_GenerateRandom",
];

/// Faults in one control directory.
pub const FAULTS: usize = 512;
/// Processes with sessions at one time.
pub const PROCESSES: usize = 64;

/// When the device is free again, in nanoseconds of the monotonic clock.
pub const FREE_AT: usize = 0;
/// Calls of each function.
pub const CALLS: usize = 1;
/// Calls seen by each fault.
pub const SEEN: usize = CALLS + FUNCTIONS.len();
/// Process id and number of open sessions, in turn.
pub const SESSIONS: usize = SEEN + FAULTS;
pub const WORDS: usize = SESSIONS + 2 * PROCESSES;

/// Where a function stands in `FUNCTIONS`.
pub fn place_of(function: &str) -> Option<usize> {
    FUNCTIONS.iter().position(|known| *known == function)
}
