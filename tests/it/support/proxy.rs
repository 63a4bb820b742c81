//! A proxy between a store and its database server that fails on order.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// What the proxy does with the next COMMIT, or with everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Order {
    Pass = 0,
    /// The next COMMIT reaches the server and takes hold; its answer does not come back.
    LoseAnswer = 1,
    /// The next COMMIT does not reach the server.
    LoseCommit = 2,
    /// The next BEGIN does not reach the server.
    LoseBegin = 3,
    /// Nothing passes any more, and no connection ends.
    Stall = 4,
}

pub struct Proxy {
    port: u16,
    order: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let order = Arc::new(AtomicU8::new(Order::Pass as u8));
        let ended = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (orders, count, done) = (Arc::clone(&order), Arc::clone(&asked), Arc::clone(&ended));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                // A server that is down refuses; then so does the proxy.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                forward(client, server, &orders, &count);
            }
        });
        Self { port, order, asked, ended }
    }

    /// How often the server was sent something: not less than the round trips.
    #[allow(dead_code, reason = "the crash suite counts none")]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn order(&self, order: Order) {
        self.order.store(order as u8, Ordering::SeqCst);
    }

    /// True when the order was carried out.
    pub fn is_done(&self) -> bool {
        self.order.load(Ordering::SeqCst) == Order::Pass as u8
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn forward(client: TcpStream, server: TcpStream, orders: &Arc<AtomicU8>, asked: &Arc<AtomicUsize>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    // Set when the answer to a COMMIT is awaited that must not come back.
    let losing = Arc::new(AtomicBool::new(false));
    let (mut up_from, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (orders_up, losing_up, asked) = (Arc::clone(orders), Arc::clone(&losing), Arc::clone(asked));
    std::thread::spawn(move || {
        let carry = |bytes: &[u8], to: &mut TcpStream| {
            asked.fetch_add(1, Ordering::SeqCst);
            let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
            let take = |order: Order| {
                orders_up.compare_exchange(order as u8, Order::Pass as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if has(b"COMMIT\0") && take(Order::LoseCommit) || has(b"BEGIN; ") && take(Order::LoseBegin) {
                return false;
            }
            if has(b"COMMIT\0") && orders_up.load(Ordering::SeqCst) == Order::LoseAnswer as u8 {
                losing_up.store(true, Ordering::SeqCst);
            }
            wait_while_stalled(&orders_up);
            to.write_all(bytes).is_ok()
        };
        copy(&mut up_from, &mut up_to, carry);
    });
    let (mut down_from, mut down_to) = (server, client);
    let orders = Arc::clone(orders);
    std::thread::spawn(move || {
        let carry = |bytes: &[u8], to: &mut TcpStream| {
            if losing.load(Ordering::SeqCst) && bytes.windows(7).any(|window| window == b"COMMIT\0") {
                orders.store(Order::Pass as u8, Ordering::SeqCst);
                return false;
            }
            wait_while_stalled(&orders);
            to.write_all(bytes).is_ok()
        };
        copy(&mut down_from, &mut down_to, carry);
    });
}

fn wait_while_stalled(orders: &AtomicU8) {
    while orders.load(Ordering::SeqCst) == Order::Stall as u8 {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// Until one end closes or `carry` says that it is over; then both ends are closed.
fn copy(from: &mut TcpStream, to: &mut TcpStream, carry: impl Fn(&[u8], &mut TcpStream) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || !carry(&buffer[..length], to) {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
