//! Strict stdio: each line is checked before the MCP library reads it, and refused with a JSON-RPC error by name.
//!
//! The library would take the last of two equal keys and read numbers as floats; what reaches the bank must be what
//! the client wrote.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::kernel::json::{self, JsonRefused};

/// Longest line from the client; the bank takes less.
const LINE_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 32;
const PIPE_BYTES: usize = 64 << 10;
/// Lines that wait to be written.
const LINES_WAITING_MAX: usize = 256;

/// JSON-RPC 2.0, 5.1: the line is not JSON.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC 2.0, 5.1: it is JSON, and not a request that we take.
const INVALID_REQUEST: i32 = -32600;

/// The library's two ends, and the task that writes what is left when both are closed.
pub(super) struct Stdio {
    pub read: DuplexStream,
    pub write: DuplexStream,
    pub written: JoinHandle<()>,
}

/// Puts the check between a client and the library. Ends when the client's input ends.
pub(super) fn strict(
    input: impl AsyncRead + Unpin + Send + 'static,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> Stdio {
    let (to_library, read) = duplex(PIPE_BYTES);
    let (write, from_library) = duplex(PIPE_BYTES);
    let (lines, waiting) = mpsc::channel(LINES_WAITING_MAX);
    tokio::spawn(admit(input, to_library, lines.clone()));
    tokio::spawn(collect(from_library, lines));
    let written = tokio::spawn(write_lines(output, waiting));
    Stdio { read, write, written }
}

/// Passes good lines on and answers bad ones.
async fn admit(input: impl AsyncRead + Unpin, mut to_library: DuplexStream, answers: mpsc::Sender<Vec<u8>>) {
    let mut reader = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than the limit shows that a line is too long.
        let limit = LINE_BYTES_MAX as u64 + 2;
        match (&mut reader).take(limit).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let whole = line.ends_with(b"\n");
        let checked = json::check(line.trim_ascii(), LINE_BYTES_MAX, DEPTH_MAX)
            .and_then(|()| json::check_numbers(line.trim_ascii()));
        match checked {
            Ok(()) => {
                if !whole {
                    line.push(b'\n');
                }
                if to_library.write_all(&line).await.is_err() {
                    return;
                }
            }
            Err(refused) => {
                if answers.send(answer(&line, &refused)).await.is_err() {
                    return;
                }
                if !whole && line.len() > LINE_BYTES_MAX {
                    // What follows is the rest of a line that nobody will read.
                    return;
                }
            }
        }
    }
}

/// A JSON-RPC error with the request's id where it can be told.
pub(super) fn answer(line: &[u8], refused: &JsonRefused) -> Vec<u8> {
    let id = serde_json::from_slice::<Value>(line).ok().map_or(Value::Null, |request| request["id"].clone());
    let code = match refused {
        JsonRefused::NotJson { .. } => PARSE_ERROR,
        JsonRefused::TooLong { .. }
        | JsonRefused::TooDeep { .. }
        | JsonRefused::DuplicateKey { .. }
        | JsonRefused::ImpreciseNumber { .. } => INVALID_REQUEST,
    };
    let error = json!({
        "code": code,
        "message": format!("{refused}; nothing was sent to the bank, correct the request"),
        "data": { "name": refused.name() },
    });
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_bytes()
}

/// Takes the library's lines one by one, so that answers of both never run into each other.
async fn collect(from_library: DuplexStream, lines: mpsc::Sender<Vec<u8>>) {
    let mut reader = BufReader::new(from_library);
    loop {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

async fn write_lines(mut output: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = waiting.recv().await {
        // A client that reads no more gets no more.
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn through(input: &str) -> (String, String) {
        let (mut client, client_end) = duplex(PIPE_BYTES);
        let (output_end, mut output) = duplex(PIPE_BYTES);
        let Stdio { mut read, write, written } = strict(client_end, output_end);
        client.write_all(input.as_bytes()).await.unwrap();
        drop(client);
        let (mut passed, mut answered) = (String::new(), String::new());
        read.read_to_string(&mut passed).await.unwrap();
        drop((read, write));
        written.await.unwrap();
        output.read_to_string(&mut answered).await.unwrap();
        (passed, answered)
    }

    #[tokio::test]
    async fn lines_that_break_a_rule_are_answered_and_not_passed_on() {
        let table = [
            ("nonsense", "json_malformed", "null"),
            ("{\"id\":7,\"method\":\"a\",\"method\":\"b\"}", "json_duplicate_key", "7"),
            ("{\"id\":\"x\",\"params\":{\"amount\":1.0000000000000001}}", "json_imprecise_number", "\"x\""),
            ("{\"id\":8,\"params\":{\"amount\":1e2}}", "json_imprecise_number", "8"),
            ("{\"id\":9} {}", "json_malformed", "null"),
        ];
        for (line, name, id) in table {
            let (passed, answered) = through(&format!("{line}\n{{\"id\":1}}\n")).await;
            assert_eq!(passed, "{\"id\":1}\n", "{line}");
            let answer: Value = serde_json::from_str(&answered).unwrap();
            assert_eq!((answer["error"]["data"]["name"].as_str(), answer["id"].to_string()), (Some(name), id.into()));
        }
    }

    #[tokio::test]
    async fn good_lines_pass_as_they_are_even_without_their_last_newline() {
        let (passed, answered) = through("{\"id\":1,\"amount\":1899.99}\n\n{\"id\":2}").await;
        assert_eq!((passed.as_str(), answered.as_str()), ("{\"id\":1,\"amount\":1899.99}\n{\"id\":2}\n", ""));
    }
}
