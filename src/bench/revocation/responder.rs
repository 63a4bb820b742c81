//! Answers about a certificate from memory, against a file's worth of bytes from the same HTTP server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Plan;
use crate::bench::figures::Spread;
use crate::bench::served::{failed, operator};
use crate::bench::site::Site;
use crate::bench::stop::Stop;
use crate::front::pki::{self, Publication};
use crate::kernel::credential::certificate::Certificate;
use crate::kernel::credential::ocsp;
use crate::ops::failure::Failure;
use crate::store::CertificatesOf;

const CALLERS: usize = 16;
const HEAD_BYTES_MAX: usize = 4_096;

pub(super) struct Answers {
    pub(super) ours: Spread,
    pub(super) fixed: Spread,
    pub(super) ratio: Spread,
}

pub(super) fn measure(plan: &Plan, site: &Site, stop: &Stop) -> Result<Answers, Failure> {
    let authority = &site.bank.authority;
    let list = authority.publish_lists(&operator("olga"))?;
    let issuer = list["issuer"].as_str().unwrap_or_default().to_owned();
    let question = question(site, &issuer)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| failed(&error))?;
    let listening = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| failed(&error))?;
    let address = listening.local_addr().map_err(|error| failed(&error))?;
    let publication = Arc::new(Publication::new(Arc::clone(authority), Arc::clone(&site.bank.services.responder)));
    let ended = CancellationToken::new();
    let serving = runtime.spawn(pki::serve(listening, publication, ended.clone()));

    let post = format!(
        "POST /ocsp/{issuer} HTTP/1.1\r\nHost: pki\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
        question.len()
    );
    let ours_request = [post.as_bytes(), &question].concat();
    // The certificate of a CA and an answer about a certificate are about as long; the list is nearest to a file.
    let fixed_request = format!("GET /crl/{issuer}.crl HTTP/1.1\r\nHost: pki\r\n\r\n").into_bytes();
    let (mut ours, mut fixed, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        stop.check()?;
        let bare = rate(address, &fixed_request, plan.seconds)?;
        let rate = rate(address, &ours_request, plan.seconds)?;
        ours.push(rate);
        fixed.push(bare);
        ratios.push(rate / bare);
    }
    ended.cancel();
    runtime.block_on(serving).map_err(|error| failed(&error))??;
    Ok(Answers { ours: Spread::of(ours), fixed: Spread::of(fixed), ratio: Spread::of(ratios) })
}

/// About the first agent's certificate.
fn question(site: &Site, issuer: &str) -> Result<Vec<u8>, Failure> {
    let defect = || Failure::fault("bench_failed", "there is nothing to ask about", "report this as a defect");
    let of = CertificatesOf::Issuer(issuer.to_owned());
    let lines = site.bank.store.certificate_lines(&of, crate::ops::clock::now(), None, 1)?;
    let (der, _, _) = site.bank.authority.authority_certificate(issuer)?.ok_or_else(defect)?;
    let authority = Certificate::read(&der).map_err(|_| defect())?;
    let serial = &lines.first().ok_or_else(defect)?.serial;
    let id = ocsp::cert_id(authority.tbs.subject, authority.tbs.spki, serial).ok_or_else(defect)?;
    Ok(ocsp::request(&[id]))
}

fn rate(address: SocketAddr, request: &[u8], seconds: f64) -> Result<f64, Failure> {
    let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(|| call(address, request, &done, &over))).collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        over.store(true, Ordering::Relaxed);
        let ends: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        ends.into_iter().try_for_each(|end| end.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())))
    })
    .map_err(|error: std::io::Error| Failure::fault("bench_failed", error.to_string(), "repeat it"))?;
    // Counts stay far below 2^52.
    Ok(done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

fn call(address: SocketAddr, request: &[u8], done: &AtomicU64, over: &AtomicBool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    while !over.load(Ordering::Relaxed) {
        stream.write_all(request)?;
        let mut filled = 0;
        let whole = loop {
            filled += stream.read(&mut buffer[filled..])?;
            if let Some(whole) = length(&buffer[..filled]) {
                break whole;
            }
            if filled > HEAD_BYTES_MAX {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
        };
        while filled < whole {
            filled += stream.read(&mut buffer[filled..])?;
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&buffer[..filled.min(200)]).into_owned()));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Of the whole answer, once its head is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head + line.parse::<usize>().ok()?)
}
