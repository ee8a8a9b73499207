//! What a row is: a struct whose fields are the keys of its JSON and the columns of its table.
#![forbid(unsafe_code)]

use super::column::{Column, Field};

/// A row of a document, or a part that rows of several documents have.
pub trait Row {
    /// Its keys, in the order of a table's columns.
    const COLUMNS: &'static [Column];

    /// Passes the value of each column to `take`, in their order.
    fn fields<'a>(&'a self, take: &mut dyn FnMut(Field<'a>));

    /// Whether one of its texts is this word.
    fn has(&self, word: &str) -> bool {
        let mut found = false;
        self.fields(&mut |field| found |= field.has(word));
        found
    }
}

/// A part that a row may lack: its keys are absent then.
impl<T: Row> Row for Option<T> {
    const COLUMNS: &'static [Column] = T::COLUMNS;

    fn fields<'a>(&'a self, take: &mut dyn FnMut(Field<'a>)) {
        match self {
            Some(part) => part.fields(take),
            None => T::COLUMNS.iter().for_each(|_| take(Field::Unknown)),
        }
    }
}

/// The keys of a document that has none of its own.
impl Row for () {
    const COLUMNS: &'static [Column] = &[];

    fn fields<'a>(&'a self, _: &mut dyn FnMut(Field<'a>)) {}
}

/// Declares rows. A field with a header and a unit is a column, which its comment describes, and `=> N`
/// behind the unit its rank ([`Column::rank`]); one without, which is to be flattened by serde, is a part
/// with columns of its own.
macro_rules! rows {
    ($(
        $(#[doc = $about:literal])+
        $(#[derive($derived:ident)])?
        $(#[serde($($container:tt)+)])?
        pub struct $name:ident {
            $(
                $(#[doc = $text:literal])+
                $(#[serde($($serde:tt)+)])?
                $field:ident: $type:ty $(= $header:literal $unit:expr $(=> $rank:literal)?)?,
            )+
        }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
        $(#[derive(serde::$derived)])?
        $(#[serde($($container)+)])?
        pub struct $name {
            $(
                $(#[doc = $text])+
                $(#[serde($($serde)+)])?
                pub $field: $type,
            )+
        }

        impl $crate::api::row::Row for $name {
            const COLUMNS: &'static [$crate::api::column::Column] = {
                const PARTS: &[&[$crate::api::column::Column]] = &[$(
                    $crate::api::row::columns_of!(
                        $type, stringify!($field), concat!($($text),+) $(, $header, $unit $(, $rank)?)?
                    )
                ),+];
                &$crate::api::row::joined::<{ $crate::api::row::count(PARTS) }>(PARTS)
            };

            fn fields<'a>(&'a self, take: &mut dyn FnMut($crate::api::column::Field<'a>)) {
                $($crate::api::row::fields_of!(&self.$field, take $(, $header)?);)+
            }
        }
    )+};
}

macro_rules! columns_of {
    ($part:ty, $key:expr, $about:expr) => {
        <$part as $crate::api::row::Row>::COLUMNS
    };
    ($type:ty, $key:expr, $about:expr, $header:expr, $unit:expr) => {
        &[$crate::api::column::Column::new::<$type>($key, $header, $unit, $about)]
    };
    ($type:ty, $key:expr, $about:expr, $header:expr, $unit:expr, $rank:expr) => {
        &[$crate::api::column::Column::new::<$type>($key, $header, $unit, $about).ranked($rank)]
    };
}

macro_rules! fields_of {
    ($part:expr, $take:ident) => {
        $crate::api::row::Row::fields($part, $take)
    };
    ($value:expr, $take:ident, $header:literal) => {
        $take($crate::api::column::AsField::field($value))
    };
}

/// The keys of these fields. One that the row does not have does not compile.
macro_rules! keys {
    ($row:ty: $($field:ident),+) => {{
        const _: fn(&$row) = |row| {
            $(let _ = &row.$field;)+
        };
        &[$(stringify!($field)),+]
    }};
}

pub(crate) use keys;
pub(super) use {columns_of, fields_of, rows};

pub(super) const fn count(parts: &[&[Column]]) -> usize {
    let (mut count, mut part) = (0, 0);
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

/// The columns of all parts, of which there are `N`.
pub(super) const fn joined<const N: usize>(parts: &[&[Column]]) -> [Column; N] {
    let mut all = [parts[0][0]; N];
    let (mut done, mut part) = (0, 0);
    while part < parts.len() {
        let mut column = 0;
        while column < parts[part].len() {
            all[done] = parts[part][column];
            done += 1;
            column += 1;
        }
        part += 1;
    }
    all
}
