//! Finds where every value starts and ends, in one pass and without recursion.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::{Fault, Limits, Reason};

/// The most digits of a string's length: enough for every length that an offset of 32 bits can reach.
const MAX_LENGTH_DIGITS: usize = 10;

/// The most characters of an integer between `i` and `e`: what 64 bits need, with a sign.
const MAX_INTEGER: usize = 21;

/// A value and all that is in it, as it stands in the bytes.
pub struct Document<'a> {
    bytes: &'a [u8],
    tokens: Vec<Token>,
}

/// One value: its bytes, and the number of the token after it and all it holds.
struct Token {
    start: u32,
    end: u32,
    next: u32,
}

/// A list or dictionary that has not ended yet.
struct Open {
    token: usize,
    is_dict: bool,
    /// The next value in this dictionary belongs to a key.
    has_key: bool,
}

impl<'a> Document<'a> {
    /// Reads one value that is all of `bytes`.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        let document = Self::parse_prefix(bytes, limits)?;
        match document.len() {
            len if len == bytes.len() => Ok(document),
            len => Err(Fault::new(len, Reason::Trailing)),
        }
    }

    /// Reads the value that `bytes` start with; [`len`](Self::len) is where it ends. What follows is counted by the limit
    /// on the length too.
    pub fn parse_prefix(bytes: &'a [u8], limits: &Limits) -> Result<Self, Fault> {
        if bytes.len() > limits.max_len || u32::try_from(bytes.len()).is_err() {
            return Err(Fault::new(limits.max_len.min(u32::MAX as usize), Reason::TooLong));
        }
        let mut scan = Scan { bytes, at: 0, tokens: Vec::new(), open: Vec::new(), limits };
        scan.run()?;
        Ok(Self { bytes, tokens: scan.tokens })
    }

    /// The value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, token: 0 }
    }

    /// The number of bytes it takes.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        self.root().span().end
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("len", &self.len()).field("values", &self.tokens.len()).finish()
    }
}

struct Scan<'a, 'l> {
    bytes: &'a [u8],
    at: usize,
    tokens: Vec<Token>,
    open: Vec<Open>,
    limits: &'l Limits,
}

impl Scan<'_, '_> {
    fn run(&mut self) -> Result<(), Fault> {
        loop {
            let start = self.at;
            let first = *self.bytes.get(start).ok_or(Fault::new(start, Reason::Truncated))?;
            if first == b'e' {
                self.close()?;
            } else {
                self.value(first)?;
            }
            if self.open.is_empty() {
                return Ok(());
            }
        }
    }

    /// The end of a list or dictionary.
    fn close(&mut self) -> Result<(), Fault> {
        let open = self.open.pop().ok_or(Fault::new(self.at, Reason::NotAValue))?;
        if open.has_key {
            return Err(Fault::new(self.at, Reason::NoValue));
        }
        self.at += 1;
        let next = self.tokens.len() as u32;
        let token = &mut self.tokens[open.token];
        token.end = self.at as u32;
        token.next = next;
        Ok(())
    }

    fn value(&mut self, first: u8) -> Result<(), Fault> {
        let start = self.at;
        if let Some(open) = self.open.last_mut().filter(|open| open.is_dict) {
            open.has_key = !open.has_key;
            if open.has_key && !first.is_ascii_digit() {
                return Err(Fault::new(start, Reason::NotAKey));
            }
        }
        if self.tokens.len() >= self.limits.max_values {
            return Err(Fault::new(start, Reason::TooMany));
        }
        match first {
            b'l' | b'd' => {
                if self.open.len() >= self.limits.max_depth {
                    return Err(Fault::new(start, Reason::TooDeep));
                }
                self.open.push(Open { token: self.tokens.len(), is_dict: first == b'd', has_key: false });
                self.at += 1;
            }
            b'i' => self.integer()?,
            b'0'..=b'9' => self.string()?,
            _ => return Err(Fault::new(start, Reason::NotAValue)),
        }
        let next = self.tokens.len() as u32 + 1;
        self.tokens.push(Token { start: start as u32, end: self.at as u32, next });
        Ok(())
    }

    fn integer(&mut self) -> Result<(), Fault> {
        let text = &self.bytes[self.at + 1..];
        let (len, ended) = up_to(text, b'e', MAX_INTEGER);
        let digits = text[..len].strip_prefix(b"-").unwrap_or(&text[..len]);
        if !digits.iter().all(u8::is_ascii_digit) || (ended && digits.is_empty()) || (!ended && len < text.len()) {
            return Err(Fault::new(self.at, Reason::BadInteger));
        }
        if !ended {
            return Err(Fault::new(self.bytes.len(), Reason::Truncated));
        }
        self.at += 1 + len + 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        let text = &self.bytes[self.at..];
        let (len, ended) = up_to(text, b':', MAX_LENGTH_DIGITS);
        if !text[..len].iter().all(u8::is_ascii_digit) || (!ended && len < text.len()) {
            return Err(Fault::new(self.at, Reason::BadLength));
        }
        if !ended {
            return Err(Fault::new(self.bytes.len(), Reason::Truncated));
        }
        let size = text[..len].iter().fold(0u64, |size, digit| size * 10 + u64::from(digit - b'0'));
        let rest = text.len() - len - 1;
        match usize::try_from(size) {
            Ok(size) if size <= rest => self.at += len + 1 + size,
            _ => return Err(Fault::new(self.at, Reason::Truncated)),
        }
        Ok(())
    }
}

/// How many bytes stand before `end`, and whether it was found within `max` of them.
fn up_to(text: &[u8], end: u8, max: usize) -> (usize, bool) {
    let window = &text[..text.len().min(max + 1)];
    match window.iter().position(|b| *b == end) {
        Some(len) => (len, true),
        None => (window.len(), false),
    }
}

/// One value of a [`Document`].
#[derive(Copy, Clone)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    token: u32,
}

impl<'d> Value<'d> {
    /// Where it stands in the document.
    pub fn span(self) -> Range<usize> {
        let token = self.token();
        token.start as usize..token.end as usize
    }

    /// Its bytes as they stand.
    pub fn raw(self) -> &'d [u8] {
        &self.document.bytes[self.span()]
    }

    /// Where the content of a string stands in the document; `None` for any other value.
    pub fn content(self) -> Option<Range<usize>> {
        let raw = self.raw();
        let colon = raw.first().filter(|b| b.is_ascii_digit()).and_then(|_| raw.iter().position(|b| *b == b':'))?;
        let span = self.span();
        Some(span.start + colon + 1..span.end)
    }

    /// The content of a string.
    pub fn as_bytes(self) -> Option<&'d [u8]> {
        self.content().map(|content| &self.document.bytes[content])
    }

    /// The content of a string as text; what is not UTF-8 is replaced.
    pub fn as_text(self) -> Option<Cow<'d, str>> {
        self.as_bytes().map(String::from_utf8_lossy)
    }

    /// An integer; `None` also if it doesn't fit.
    pub fn as_int(self) -> Option<i64> {
        let text = self.raw().strip_prefix(b"i")?.strip_suffix(b"e")?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// What is in a list.
    pub fn as_list(self) -> Option<Items<'d>> {
        (self.raw().first() == Some(&b'l')).then(|| self.items())
    }

    /// What is in a dictionary, in the order in which it stands there.
    pub fn as_dict(self) -> Option<Entries<'d>> {
        (self.raw().first() == Some(&b'd')).then(|| Entries(self.items()))
    }

    /// The value of the first such key in a dictionary. `None` if this is none.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'d>> {
        let key = key.as_ref();
        self.as_dict()?.find_map(|(k, value)| (k == key).then_some(value))
    }

    fn token(self) -> &'d Token {
        &self.document.tokens[self.token as usize]
    }

    fn items(self) -> Items<'d> {
        Items { document: self.document, next: self.token + 1, end: self.token().next }
    }
}

/// By its bytes, which are shown up to a bound.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let raw = self.raw();
        let more = if raw.len() > SHOWN { "..." } else { "" };
        write!(f, "{}{more}", raw[..raw.len().min(SHOWN)].escape_ascii())
    }
}

/// The values of a list.
#[derive(Clone, Debug)]
pub struct Items<'d> {
    document: &'d Document<'d>,
    next: u32,
    end: u32,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        (self.next < self.end).then(|| {
            let value = Value { document: self.document, token: self.next };
            self.next = value.token().next;
            value
        })
    }
}

/// The keys and values of a dictionary.
#[derive(Clone, Debug)]
pub struct Entries<'d>(Items<'d>);

impl<'d> Iterator for Entries<'d> {
    type Item = (&'d [u8], Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        Some((key.as_bytes()?, self.0.next()?))
    }
}
