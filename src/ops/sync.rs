//! The locks and flags of what several threads share in memory.
//!
//! They are the standard library's. In unit tests a thread may be held up wherever it takes one, so that `shuttle` can
//! try the orders in which threads meet there: on the product's own code, and in no other test.

#[cfg(not(test))]
pub use std::sync::atomic::AtomicBool;
#[cfg(not(test))]
pub use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub use interleaved::{AtomicBool, Mutex, MutexGuard};

#[cfg(test)]
mod interleaved {
    use std::ops::{Deref, DerefMut};
    use std::sync::LockResult;
    use std::sync::atomic::Ordering;

    /// Whether shuttle runs this thread.
    fn is_interleaved() -> bool {
        shuttle::current::try_get_current_task().is_some()
    }

    /// The standard library's lock; under shuttle its own stands in front of it, and so nobody ever waits at this one.
    #[derive(Debug)]
    pub struct Mutex<T> {
        turn: Option<shuttle::sync::Mutex<()>>,
        inner: std::sync::Mutex<T>,
    }

    /// Dropped from above: the value first, then the turn.
    pub struct MutexGuard<'a, T> {
        inner: std::sync::MutexGuard<'a, T>,
        _turn: Option<shuttle::sync::MutexGuard<'a, ()>>,
    }

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            let turn = is_interleaved().then(|| shuttle::sync::Mutex::new(()));
            Self { turn, inner: std::sync::Mutex::new(value) }
        }

        /// # Errors
        /// As the standard library's.
        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let turn = self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
            match self.inner.lock() {
                Ok(inner) => Ok(MutexGuard { inner, _turn: turn }),
                Err(poisoned) => {
                    Err(std::sync::PoisonError::new(MutexGuard { inner: poisoned.into_inner(), _turn: turn }))
                }
            }
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.inner
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.inner
        }
    }

    /// The standard library's flag; under shuttle another thread may go first.
    #[derive(Debug)]
    pub struct AtomicBool(std::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn new(value: bool) -> Self {
            Self(std::sync::atomic::AtomicBool::new(value))
        }

        pub fn load(&self, order: Ordering) -> bool {
            let_others();
            self.0.load(order)
        }

        pub fn store(&self, value: bool, order: Ordering) {
            let_others();
            self.0.store(value, order);
        }
    }

    fn let_others() {
        if is_interleaved() {
            shuttle::thread::yield_now();
        }
    }

    /// A lock that is none would let two threads write what one of them read: shuttle finds it.
    #[test]
    fn orders_in_which_a_write_is_lost_are_found() {
        let lost = std::panic::catch_unwind(|| {
            shuttle::check_random_with_seed(
                || {
                    let number = std::sync::Arc::new(Mutex::new(0));
                    let add = {
                        let number = std::sync::Arc::clone(&number);
                        move || {
                            let read = *number.lock().unwrap();
                            *number.lock().unwrap() = read + 1;
                        }
                    };
                    let other = shuttle::thread::spawn(add.clone());
                    add();
                    other.join().unwrap();
                    assert_eq!(*number.lock().unwrap(), 2);
                },
                1,
                100,
            );
        });
        assert!(lost.is_err());
    }
}
