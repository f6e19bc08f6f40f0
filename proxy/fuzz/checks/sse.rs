//! What must hold for any bytes given to the event stream; used by the fuzz target and by ordinary tests.

use bytes::{Bytes, BytesMut};

use super::wire::sse::{Event, Reader, SseError, write_event};

/// What one reader made of a stream: its events, and whether it gave up.
pub type Outcome = (Vec<Event>, Result<(), SseError>);

/// Panics if a property doesn't hold. The stream is cut into chunks by its own bytes.
pub fn check(data: &[u8]) {
    let sizes = data.iter().map(|byte| usize::from(byte % 7)).chain(std::iter::repeat(1));
    for limit in [16, 1 << 20] {
        let whole = read(data, limit, std::iter::repeat(data.len()));
        assert_eq!(whole, read(data, limit, sizes.clone()), "chunks made a difference");
        assert_eq!(whole, read(data, limit, std::iter::repeat(1)), "single bytes made a difference");
        whole.0.iter().for_each(|event| assert!(event.data.len() <= limit));
        written_and_read_again(whole.0);
    }
}

/// Reads a stream in chunks of these sizes; a size of zero is an empty chunk.
pub fn read(data: &[u8], limit: usize, sizes: impl Iterator<Item = usize>) -> Outcome {
    let mut reader = Reader::new(limit);
    let mut events = Vec::new();
    let mut rest = data;
    for size in sizes {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            match reader.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next_event(), Err(error), "an error is final");
                    return (events, Err(error));
                }
            }
        }
    }
    (events, Ok(()))
}

fn written_and_read_again(events: Vec<Event>) {
    let mut out = BytesMut::new();
    for event in &events {
        write_event(&mut out, event.event.as_deref(), event.id.as_deref(), event.retry, &event.data);
    }
    let len = out.len();
    assert_eq!(read(&out, 1 << 20, std::iter::repeat(len)), (events, Ok(())));
}
