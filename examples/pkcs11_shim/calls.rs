//! The overridden functions: those that need more than a fault before or after are written out.

#![allow(non_snake_case, reason = "the functions carry their PKCS#11 names")]

use std::time::Instant;

use cryptoki_sys::*;

use super::device::{Device, Stopped, rest_of};
use super::{codes, shim};

/// A function of the real module's table. Every module fills all places (PKCS#11 v2.40, 5.2).
macro_rules! real {
    ($function:ident) => {
        shim().device.real.$function.unwrap_or_else(|| super::stop("the real module's table has a hole"))
    };
}

/// Before, the call, after.
fn through(function: &'static str, call: impl FnOnce(&Device) -> CK_RV) -> CK_RV {
    let device = &shim().device;
    let orders = device.orders();
    if let Err(stopped) = device.before(&orders, function) {
        return stopped.code();
    }
    let inside = device.enter();
    let code = call(device);
    drop(inside);
    device.after(&orders, function).unwrap_or(code)
}

macro_rules! functions {
    (
        plain { $($plain:ident ( $($name:ident : $type:ty),* );)* }
        own { $($own:ident,)* }
    ) => {
        $(
            unsafe extern "C" fn $plain($($name: $type),*) -> CK_RV {
                // SAFETY: the caller's arguments, unchanged.
                through(stringify!($plain), |_| unsafe { real!($plain)($($name),*) })
            }
        )*

        /// The real module's table with our functions in it.
        pub fn patched(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            let mut list = *real;
            $(list.$plain = Some($plain);)*
            $(list.$own = Some($own);)*
            list.C_GetFunctionList = Some(super::C_GetFunctionList);
            list
        }
    };
}

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;

functions! {
    plain {
        C_GetInfo(info: CK_INFO_PTR);
        C_GetSlotInfo(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR);
        C_GetTokenInfo(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR);
        C_GetMechanismList(slot: CK_SLOT_ID, list: CK_MECHANISM_TYPE_PTR, count: CK_ULONG_PTR);
        C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: CK_MECHANISM_INFO_PTR);
        C_InitToken(slot: CK_SLOT_ID, pin: CK_UTF8CHAR_PTR, length: CK_ULONG, label: CK_UTF8CHAR_PTR);
        C_InitPIN(session: Session, pin: CK_UTF8CHAR_PTR, length: CK_ULONG);
        C_GetSessionInfo(session: Session, info: CK_SESSION_INFO_PTR);
        C_Logout(session: Session);
        C_CreateObject(session: Session, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, object: CK_OBJECT_HANDLE_PTR);
        C_CopyObject(session: Session, from: Object, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, object: CK_OBJECT_HANDLE_PTR);
        C_GetAttributeValue(session: Session, object: Object, template: CK_ATTRIBUTE_PTR, count: CK_ULONG);
        C_FindObjectsFinal(session: Session);
        C_EncryptInit(session: Session, mechanism: CK_MECHANISM_PTR, key: Object);
        C_Encrypt(session: Session, data: CK_BYTE_PTR, length: CK_ULONG, out: CK_BYTE_PTR, out_length: CK_ULONG_PTR);
        C_DecryptInit(session: Session, mechanism: CK_MECHANISM_PTR, key: Object);
        C_Decrypt(session: Session, data: CK_BYTE_PTR, length: CK_ULONG, out: CK_BYTE_PTR, out_length: CK_ULONG_PTR);
        C_VerifyInit(session: Session, mechanism: CK_MECHANISM_PTR, key: Object);
        C_Verify(session: Session, data: CK_BYTE_PTR, length: CK_ULONG, signature: CK_BYTE_PTR, signature_length: CK_ULONG);
        C_GenerateKey(session: Session, mechanism: CK_MECHANISM_PTR, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, key: CK_OBJECT_HANDLE_PTR);
        C_GenerateKeyPair(
            session: Session, mechanism: CK_MECHANISM_PTR, public_template: CK_ATTRIBUTE_PTR, public_count: CK_ULONG,
            private_template: CK_ATTRIBUTE_PTR, private_count: CK_ULONG,
            public: CK_OBJECT_HANDLE_PTR, private: CK_OBJECT_HANDLE_PTR
        );
        C_GenerateRandom(session: Session, out: CK_BYTE_PTR, length: CK_ULONG);
    }
    own {
        C_Initialize, C_Finalize, C_GetSlotList, C_OpenSession, C_CloseSession, C_CloseAllSessions, C_Login,
        C_FindObjectsInit, C_FindObjects, C_SetAttributeValue, C_DestroyObject, C_SignInit, C_Sign,
    }
}

unsafe extern "C" fn C_Initialize(arguments: CK_VOID_PTR) -> CK_RV {
    through("C_Initialize", |device| {
        let orders = device.orders();
        for (name, value) in &orders.environment {
            // SAFETY: the caller initialises from one thread; nobody else in a worker reads these names then.
            unsafe { std::env::set_var(name, value) };
        }
        // SAFETY: the caller's arguments, unchanged.
        let code = unsafe { real!(C_Initialize)(arguments) };
        if code == CKR_OK {
            device.initialized(&orders);
        }
        code
    })
}

unsafe extern "C" fn C_Finalize(reserved: CK_VOID_PTR) -> CK_RV {
    through("C_Finalize", |device| {
        // SAFETY: the caller's argument, unchanged.
        let code = unsafe { real!(C_Finalize)(reserved) };
        if code == CKR_OK {
            device.finalized();
        }
        code
    })
}

unsafe extern "C" fn C_GetSlotList(present: CK_BBOOL, list: CK_SLOT_ID_PTR, count: CK_ULONG_PTR) -> CK_RV {
    through("C_GetSlotList", |device| {
        if device.sees_no_token() && !count.is_null() {
            // SAFETY: the caller's place for the count.
            unsafe { *count = 0 };
            return CKR_OK;
        }
        // SAFETY: the caller's arguments, unchanged.
        unsafe { real!(C_GetSlotList)(present, list, count) }
    })
}

unsafe extern "C" fn C_OpenSession(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: CK_VOID_PTR,
    notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> CK_RV {
    through("C_OpenSession", |device| {
        device.open_session(&device.orders(), slot, || {
            // SAFETY: the caller's arguments, unchanged; a session handle is there when the answer is CKR_OK.
            unsafe {
                let code = real!(C_OpenSession)(slot, flags, application, notify, session);
                (code, if code == CKR_OK { *session } else { 0 })
            }
        })
    })
}

unsafe extern "C" fn C_CloseSession(session: Session) -> CK_RV {
    through("C_CloseSession", |device| {
        // SAFETY: the caller's argument, unchanged.
        let code = unsafe { real!(C_CloseSession)(session) };
        device.closed(session);
        code
    })
}

unsafe extern "C" fn C_CloseAllSessions(slot: CK_SLOT_ID) -> CK_RV {
    through("C_CloseAllSessions", |device| {
        // SAFETY: the caller's argument, unchanged.
        let code = unsafe { real!(C_CloseAllSessions)(slot) };
        device.closed_all(slot);
        code
    })
}

/// The PIN is passed on and goes nowhere else.
unsafe extern "C" fn C_Login(session: Session, user: CK_USER_TYPE, pin: CK_UTF8CHAR_PTR, length: CK_ULONG) -> CK_RV {
    let code = through("C_Login", |device| {
        // SAFETY: the caller's arguments, unchanged.
        let code = unsafe { real!(C_Login)(session, user, pin, length) };
        if code == CKR_OK {
            device.logged_in();
        }
        code
    });
    let device = &shim().device;
    if device.orders().journal {
        device.control.note(&format!("login {} {}", std::process::id(), codes::name(code)));
    }
    code
}

unsafe extern "C" fn C_FindObjectsInit(session: Session, template: CK_ATTRIBUTE_PTR, count: CK_ULONG) -> CK_RV {
    through("C_FindObjectsInit", |device| {
        let wanted = if template.is_null() {
            &[]
        } else {
            // SAFETY: the caller's attributes of the stated number.
            unsafe { std::slice::from_raw_parts(template, count as usize) }
        };
        device.begins_searching(&device.orders(), session, wanted);
        // SAFETY: the caller's arguments, unchanged.
        unsafe { real!(C_FindObjectsInit)(session, template, count) }
    })
}

unsafe extern "C" fn C_FindObjects(
    session: Session,
    found: CK_OBJECT_HANDLE_PTR,
    max: CK_ULONG,
    count: CK_ULONG_PTR,
) -> CK_RV {
    through("C_FindObjects", |device| {
        if (device.sees_no_token() || device.is_blind(session)) && !count.is_null() {
            // SAFETY: the caller's place for the count.
            unsafe { *count = 0 };
            return CKR_OK;
        }
        // SAFETY: the caller's arguments, unchanged.
        unsafe { real!(C_FindObjects)(session, found, max, count) }
    })
}

unsafe extern "C" fn C_SetAttributeValue(
    session: Session,
    object: Object,
    template: CK_ATTRIBUTE_PTR,
    count: CK_ULONG,
) -> CK_RV {
    through("C_SetAttributeValue", |device| {
        device.forget_ids();
        // SAFETY: the caller's arguments, unchanged.
        unsafe { real!(C_SetAttributeValue)(session, object, template, count) }
    })
}

unsafe extern "C" fn C_DestroyObject(session: Session, object: Object) -> CK_RV {
    through("C_DestroyObject", |device| {
        device.forget_ids();
        // SAFETY: the caller's arguments, unchanged.
        unsafe { real!(C_DestroyObject)(session, object) }
    })
}

unsafe extern "C" fn C_SignInit(session: Session, mechanism: CK_MECHANISM_PTR, key: Object) -> CK_RV {
    through("C_SignInit", |device| {
        // SAFETY: the caller's arguments, unchanged.
        let code = unsafe { real!(C_SignInit)(session, mechanism, key) };
        if code == CKR_OK && device.orders().journal {
            device.begins_signing(session, key);
        }
        code
    })
}

/// The query for a signature's length is neither counted nor failed: it ends no operation (PKCS#11 v2.40, 5.2).
unsafe extern "C" fn C_Sign(
    session: Session,
    data: CK_BYTE_PTR,
    length: CK_ULONG,
    signature: CK_BYTE_PTR,
    signature_length: CK_ULONG_PTR,
) -> CK_RV {
    let device = &shim().device;
    // SAFETY: the caller's arguments, unchanged.
    let sign = || unsafe { real!(C_Sign)(session, data, length, signature, signature_length) };
    if signature.is_null() {
        let _inside = device.enter();
        return sign();
    }
    let (began, orders) = (Instant::now(), device.orders());
    // SAFETY: the caller's data of the stated length.
    let bytes = if data.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(data, length as usize) } };
    let note = |done: &str, code: CK_RV| {
        if orders.journal {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
            let (process, key) = (std::process::id(), device.signing_key(session));
            let (digest, code) = (hex::encode(digest), codes::name(code));
            device.control.note(&format!("sign {process} {key} {digest} {done} {code}"));
        }
    };
    if let Err(stopped) = device.before(&orders, "C_Sign") {
        if let Stopped::Fault(code) = stopped {
            // A failed C_Sign ends the operation (v2.40, 5.2); the real module has to see its end too.
            let mut unseen = [0_u8; 4096];
            let mut unseen_length = unseen.len() as CK_ULONG;
            let _inside = device.enter();
            // SAFETY: the caller's data; a buffer of our own that nobody reads.
            unsafe { real!(C_Sign)(session, data, length, unseen.as_mut_ptr(), &raw mut unseen_length) };
            note("refused", code);
        }
        return stopped.code();
    }
    device.wait_turn(&orders);
    let inside = device.enter();
    let code = sign();
    drop(inside);
    note(if code == CKR_OK { "signed" } else { "failed" }, code);
    std::thread::sleep(rest_of(&orders, began));
    if code != CKR_OK {
        return device.after(&orders, "C_Sign").unwrap_or(code);
    }
    // SAFETY: the module wrote this many bytes there.
    let written = unsafe { std::slice::from_raw_parts_mut(signature, *signature_length as usize) };
    if device.flips(&orders)
        && let Some(last) = written.last_mut()
    {
        *last ^= 1;
    }
    if let Some(lost) = device.after(&orders, "C_Sign") {
        written.fill(0);
        return lost;
    }
    code
}
