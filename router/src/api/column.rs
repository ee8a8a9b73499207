//! Columns: the keys of rows, the types of their values, and what these are for people.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use self::Unit::{Flag, List, Mark, Ratio, TextOr};

/// A key of a document and the type of its values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column {
    /// Key in JSON: snake_case, with its unit. Never renamed.
    pub key: &'static str,
    /// Header in tables.
    pub header: &'static str,
    /// The type of its values. Any value may be `null`: not known.
    pub unit: Unit,
    /// What it is, in a sentence; times and sizes with their units.
    pub about: &'static str,
    /// The higher, the sooner a table leaves it out that is too wide for the terminal; never, if 0.
    pub rank: u8,
}

/// The type of a value. It decides how tables format the value and align its column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// How long a state has lasted, on this scale. Shown as `4.1s`.
    Age(Scale),
    /// Bytes per second in JSON. Shown as bits per second: `6.5M`.
    BitRate,
    /// A number of bytes. Shown as `1.2M`.
    Bytes,
    /// A site's cost; lower is better. Shown unchanged.
    Cost,
    /// A count. Shown as `12.3k`.
    Count,
    /// A duration on this scale. Shown as `420us`.
    Duration(Scale),
    /// A boolean. Shown as `yes` or `no`.
    Flag,
    /// An array of texts. Shown separated by commas.
    List,
    /// A boolean that marks its row with `>`. The column of rows that packets go to has no header.
    Mark,
    /// An id, a rank or a size, of which sums make no sense. Shown unchanged.
    Number,
    /// Packets per second. Shown as `12.3k`.
    PacketRate,
    /// A share from 0 to 1. Shown as `38%`.
    Percent,
    /// A ratio of two counts. Shown with one decimal.
    Ratio,
    /// `up`, or another word. Metrics have 1 for `up`.
    State,
    /// Text.
    Text,
    /// Text; `null` means "all" and is shown as this.
    TextOr(&'static str),
}

/// The unit of a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

/// The value of a column in one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// A boolean.
    Flag(bool),
    /// Several texts.
    List(&'a [Text]),
    /// A whole number.
    Number(u64),
    /// A share or a ratio.
    Share(f64),
    /// One text.
    Text(&'a str),
    /// `null` or absent.
    Unknown,
}

/// Text of a row, most of which is one of a few words.
pub type Text = Cow<'static, str>;

/// A type that a row's field may have.
pub trait AsField {
    /// Which of the values it is.
    const TYPE: Type;

    /// Its value.
    fn field(&self) -> Field<'_>;
}

/// The type of a [`Field`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// [`Field::Flag`].
    Flag,
    /// [`Field::List`].
    List,
    /// [`Field::Number`].
    Number,
    /// [`Field::Share`].
    Share,
    /// [`Field::Text`].
    Text,
}

impl Column {
    /// # Panics
    /// The unit is none of this type; in a constant, the row does not compile then.
    pub(super) const fn new<T: AsField>(
        key: &'static str,
        header: &'static str,
        unit: Unit,
        about: &'static str,
    ) -> Self {
        assert!(unit.type_of() as u8 == T::TYPE as u8, "a unit of another type");
        Self { key, header, unit, about: about.trim_ascii(), rank: 0 }
    }

    pub(super) const fn ranked(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

impl Unit {
    /// Whether values are numbers, which tables align to the right.
    pub const fn is_number(self) -> bool {
        matches!(self.type_of(), Type::Number | Type::Share)
    }

    /// What values are.
    pub const fn type_of(self) -> Type {
        match self {
            Flag | Mark => Type::Flag,
            List => Type::List,
            Ratio | Self::Percent => Type::Share,
            Self::State | Self::Text | TextOr(_) => Type::Text,
            _ => Type::Number,
        }
    }

    /// What values are, for people who read JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Age(Scale::Ms) | Self::Duration(Scale::Ms) => "ms",
            Self::Age(Scale::Us) | Self::Duration(Scale::Us) => "us",
            Self::BitRate => "bytes/s",
            Self::Bytes => "bytes",
            Self::Cost => "cost",
            Self::Count => "count",
            Flag | Mark => "boolean",
            List => "list of texts",
            Self::Number => "number",
            Self::PacketRate => "packets/s",
            Self::Percent => "share, 0 to 1",
            Ratio => "ratio",
            Self::State | Self::Text | TextOr(_) => "text",
        }
    }
}

impl Scale {
    /// Nanoseconds in one unit.
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Ms => 1_000_000,
            Self::Us => 1_000,
        }
    }
}

impl Field<'_> {
    /// Whether it is this word, or has it.
    pub fn has(self, word: &str) -> bool {
        match self {
            Field::List(texts) => texts.iter().any(|text| text == word),
            Field::Text(text) => text == word,
            _ => false,
        }
    }
}

impl<T: AsField> AsField for Option<T> {
    const TYPE: Type = T::TYPE;

    fn field(&self) -> Field<'_> {
        self.as_ref().map_or(Field::Unknown, T::field)
    }
}

impl AsField for bool {
    const TYPE: Type = Type::Flag;

    fn field(&self) -> Field<'_> {
        Field::Flag(*self)
    }
}

impl AsField for f64 {
    const TYPE: Type = Type::Share;

    fn field(&self) -> Field<'_> {
        Field::Share(*self)
    }
}

impl AsField for u64 {
    const TYPE: Type = Type::Number;

    fn field(&self) -> Field<'_> {
        Field::Number(*self)
    }
}

impl AsField for Text {
    const TYPE: Type = Type::Text;

    fn field(&self) -> Field<'_> {
        Field::Text(self)
    }
}

impl AsField for Vec<Text> {
    const TYPE: Type = Type::List;

    fn field(&self) -> Field<'_> {
        Field::List(self)
    }
}
