//! Every return value of PKCS#11 (v3.1, 3.6) that cryptoki tells apart, in classes; shared by the shim and its suite.

/// What a code is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// The session is not what the caller thinks.
    Session,
    /// Login state and PINs.
    Login,
    /// Slot, token, device.
    Device,
    /// Keys and objects.
    Object,
    /// Arguments, data, templates.
    Argument,
    /// State and course of an operation.
    Operation,
    /// Memory, library, locking, the unsaid.
    General,
    /// Mechanisms and their parameters.
    Mechanism,
    /// What other cryptographic functions answer; a broken module may answer it anywhere.
    Crypto,
    /// Lengths of output.
    Buffer,
    /// CKR_VENDOR_DEFINED and above: a vendor's own.
    Vendor,
}

/// Class, name, value; without CKR_OK.
pub const CODES: &[(Class, &str, u64)] = &[
    (Class::Session, "CKR_SESSION_CLOSED", 0xb0),
    (Class::Session, "CKR_SESSION_COUNT", 0xb1),
    (Class::Session, "CKR_SESSION_HANDLE_INVALID", 0xb3),
    (Class::Session, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", 0xb4),
    (Class::Session, "CKR_SESSION_READ_ONLY", 0xb5),
    (Class::Session, "CKR_SESSION_EXISTS", 0xb6),
    (Class::Session, "CKR_SESSION_READ_ONLY_EXISTS", 0xb7),
    (Class::Session, "CKR_SESSION_READ_WRITE_SO_EXISTS", 0xb8),
    (Class::Session, "CKR_SESSION_ASYNC_NOT_SUPPORTED", 0x205),
    (Class::Login, "CKR_PIN_INCORRECT", 0xa0),
    (Class::Login, "CKR_PIN_INVALID", 0xa1),
    (Class::Login, "CKR_PIN_LEN_RANGE", 0xa2),
    (Class::Login, "CKR_PIN_EXPIRED", 0xa3),
    (Class::Login, "CKR_PIN_LOCKED", 0xa4),
    (Class::Login, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", 0xf0),
    (Class::Login, "CKR_UNWRAPPING_KEY_SIZE_RANGE", 0xf1),
    (Class::Login, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", 0xf2),
    (Class::Login, "CKR_USER_ALREADY_LOGGED_IN", 0x100),
    (Class::Login, "CKR_USER_NOT_LOGGED_IN", 0x101),
    (Class::Login, "CKR_USER_PIN_NOT_INITIALIZED", 0x102),
    (Class::Login, "CKR_USER_TYPE_INVALID", 0x103),
    (Class::Login, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", 0x104),
    (Class::Login, "CKR_USER_TOO_MANY_TYPES", 0x105),
    (Class::Login, "CKR_WRAPPING_KEY_HANDLE_INVALID", 0x113),
    (Class::Login, "CKR_WRAPPING_KEY_SIZE_RANGE", 0x114),
    (Class::Login, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", 0x115),
    (Class::Login, "CKR_NEW_PIN_MODE", 0x1b0),
    (Class::Login, "CKR_PIN_TOO_WEAK", 0x1b8),
    (Class::Device, "CKR_SLOT_ID_INVALID", 0x3),
    (Class::Device, "CKR_DEVICE_ERROR", 0x30),
    (Class::Device, "CKR_DEVICE_MEMORY", 0x31),
    (Class::Device, "CKR_DEVICE_REMOVED", 0x32),
    (Class::Device, "CKR_TOKEN_NOT_PRESENT", 0xe0),
    (Class::Device, "CKR_TOKEN_NOT_RECOGNIZED", 0xe1),
    (Class::Device, "CKR_TOKEN_WRITE_PROTECTED", 0xe2),
    (Class::Device, "CKR_TOKEN_RESOURCE_EXCEEDED", 0x201),
    (Class::Device, "CKR_TOKEN_NOT_INITIALIZED", 0x208),
    (Class::Object, "CKR_KEY_HANDLE_INVALID", 0x60),
    (Class::Object, "CKR_KEY_SIZE_RANGE", 0x62),
    (Class::Object, "CKR_KEY_TYPE_INCONSISTENT", 0x63),
    (Class::Object, "CKR_KEY_NOT_NEEDED", 0x64),
    (Class::Object, "CKR_KEY_CHANGED", 0x65),
    (Class::Object, "CKR_KEY_NEEDED", 0x66),
    (Class::Object, "CKR_KEY_INDIGESTIBLE", 0x67),
    (Class::Object, "CKR_KEY_FUNCTION_NOT_PERMITTED", 0x68),
    (Class::Object, "CKR_KEY_NOT_WRAPPABLE", 0x69),
    (Class::Object, "CKR_KEY_UNEXTRACTABLE", 0x6a),
    (Class::Object, "CKR_OBJECT_HANDLE_INVALID", 0x82),
    (Class::Object, "CKR_INFORMATION_SENSITIVE", 0x170),
    (Class::Object, "CKR_PUBLIC_KEY_INVALID", 0x1b9),
    (Class::Object, "CKR_KEY_EXHAUSTED", 0x203),
    (Class::Argument, "CKR_ARGUMENTS_BAD", 0x7),
    (Class::Argument, "CKR_ATTRIBUTE_READ_ONLY", 0x10),
    (Class::Argument, "CKR_ATTRIBUTE_SENSITIVE", 0x11),
    (Class::Argument, "CKR_ATTRIBUTE_TYPE_INVALID", 0x12),
    (Class::Argument, "CKR_ATTRIBUTE_VALUE_INVALID", 0x13),
    (Class::Argument, "CKR_ACTION_PROHIBITED", 0x1b),
    (Class::Argument, "CKR_DATA_INVALID", 0x20),
    (Class::Argument, "CKR_DATA_LEN_RANGE", 0x21),
    (Class::Argument, "CKR_TEMPLATE_INCOMPLETE", 0xd0),
    (Class::Argument, "CKR_TEMPLATE_INCONSISTENT", 0xd1),
    (Class::Argument, "CKR_DOMAIN_PARAMS_INVALID", 0x130),
    (Class::Argument, "CKR_CURVE_NOT_SUPPORTED", 0x140),
    (Class::Operation, "CKR_CANCEL", 0x1),
    (Class::Operation, "CKR_NO_EVENT", 0x8),
    (Class::Operation, "CKR_FUNCTION_CANCELED", 0x50),
    (Class::Operation, "CKR_FUNCTION_NOT_PARALLEL", 0x51),
    (Class::Operation, "CKR_OPERATION_ACTIVE", 0x90),
    (Class::Operation, "CKR_OPERATION_NOT_INITIALIZED", 0x91),
    (Class::Operation, "CKR_SAVED_STATE_INVALID", 0x160),
    (Class::Operation, "CKR_STATE_UNSAVEABLE", 0x180),
    (Class::Operation, "CKR_NEXT_OTP", 0x1b1),
    (Class::Operation, "CKR_EXCEEDED_MAX_ITERATIONS", 0x1b5),
    (Class::Operation, "CKR_FUNCTION_REJECTED", 0x200),
    (Class::Operation, "CKR_OPERATION_CANCEL_FAILED", 0x202),
    (Class::Operation, "CKR_PENDING", 0x204),
    (Class::Operation, "CKR_OPERATION_NOT_VALIDATED", 0x207),
    (Class::General, "CKR_HOST_MEMORY", 0x2),
    (Class::General, "CKR_GENERAL_ERROR", 0x5),
    (Class::General, "CKR_FUNCTION_FAILED", 0x6),
    (Class::General, "CKR_NEED_TO_CREATE_THREADS", 0x9),
    (Class::General, "CKR_CANT_LOCK", 0xa),
    (Class::General, "CKR_FUNCTION_NOT_SUPPORTED", 0x54),
    (Class::General, "CKR_CRYPTOKI_NOT_INITIALIZED", 0x190),
    (Class::General, "CKR_CRYPTOKI_ALREADY_INITIALIZED", 0x191),
    (Class::General, "CKR_MUTEX_BAD", 0x1a0),
    (Class::General, "CKR_MUTEX_NOT_LOCKED", 0x1a1),
    (Class::General, "CKR_FIPS_SELF_TEST_FAILED", 0x1b6),
    (Class::General, "CKR_LIBRARY_LOAD_FAILED", 0x1b7),
    (Class::General, "CKR_SEED_RANDOM_REQUIRED", 0x206),
    (Class::General, "CKR_PARAMETER_SET_NOT_SUPPORTED", 0x209),
    (Class::Mechanism, "CKR_MECHANISM_INVALID", 0x70),
    (Class::Mechanism, "CKR_MECHANISM_PARAM_INVALID", 0x71),
    (Class::Crypto, "CKR_ENCRYPTED_DATA_INVALID", 0x40),
    (Class::Crypto, "CKR_ENCRYPTED_DATA_LEN_RANGE", 0x41),
    (Class::Crypto, "CKR_AEAD_DECRYPT_FAILED", 0x42),
    (Class::Crypto, "CKR_SIGNATURE_INVALID", 0xc0),
    (Class::Crypto, "CKR_SIGNATURE_LEN_RANGE", 0xc1),
    (Class::Crypto, "CKR_WRAPPED_KEY_INVALID", 0x110),
    (Class::Crypto, "CKR_WRAPPED_KEY_LEN_RANGE", 0x112),
    (Class::Crypto, "CKR_RANDOM_SEED_NOT_SUPPORTED", 0x120),
    (Class::Crypto, "CKR_RANDOM_NO_RNG", 0x121),
    (Class::Buffer, "CKR_BUFFER_TOO_SMALL", 0x150),
    (Class::Vendor, "CKR_VENDOR_DEFINED", 0x80000000),
    (Class::Vendor, "CKR_VENDOR_DEFINED_42", 0x8000002a),
];

/// The value of a named code; of a number in hexadecimal (`0x80000001`), itself.
pub fn value(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    if text == "CKR_OK" {
        return Some(0);
    }
    CODES.iter().find(|(_, name, _)| *name == text).map(|(_, _, value)| *value)
}

/// The name of a code, or its number.
pub fn name(value: u64) -> String {
    if value == 0 {
        return "CKR_OK".into();
    }
    let known = CODES.iter().find(|(_, _, code)| *code == value);
    known.map_or_else(|| format!("{value:#x}"), |(_, name, _)| (*name).into())
}
