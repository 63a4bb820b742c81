//! What several areas' tests need.

pub mod kit;
pub mod postgres;
pub mod proxy;
pub mod raw;
pub mod shim;
pub mod signed;
pub mod strace;
pub mod tbs;
pub mod token;
pub mod world;

/// Between two looks at what others are about to do: they get the processor, which a look in a tight loop would keep from
/// them. Nothing is taken to be so because this time went by.
pub fn before_another_look() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}
