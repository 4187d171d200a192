//! Images that training does not see, for choices that must not be made on the test set.

use super::Labelled;
use crate::{Error, Result};

impl Labelled {
    /// Those to learn from, and `count` that are held back: the middle row of each of `count` equal parts of all `n` rows,
    /// `floor((i + 1/2)·n/count)`. Of images in random order that is a random choice, of images sorted by class a balanced one; of
    /// 50,000 rows 5,000 are the rows 5, 15, 25, ... (counted from 0). Each part keeps the hash of the whole; its name says which
    /// part it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless at least one image is held back and two are left; [`Error::Io`] where pixels live on disk.
    pub fn held_back(self, count: usize) -> Result<(Self, Self)> {
        let n = self.len();
        if count == 0 || count + 2 > n {
            let found = format!("{count} of {n} images held back");
            return Err(Error::invalid(format!("dataset {}", self.name), found, "hold back fewer, and at least one"));
        }
        let back: Vec<usize> = (0..count).map(|i| (2 * i + 1) * n / (2 * count)).collect();
        let mut is_back = vec![false; n];
        back.iter().for_each(|&row| is_back[row] = true);
        let rest: Vec<usize> = (0..n).filter(|&row| !is_back[row]).collect();
        Ok((self.rows(&rest, &format!("without {count}"))?, self.rows(&back, &format!("{count} held back"))?))
    }

    /// At most `count` images, evenly over the rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none; [`Error::Io`] where pixels live on disk.
    pub fn thinned(self, count: usize) -> Result<Self> {
        let n = self.len();
        if count == 0 {
            return Err(Error::invalid(format!("dataset {}", self.name), "no image left of it", "keep at least one"));
        }
        if count >= n {
            return Ok(self);
        }
        let rows: Vec<usize> = (0..count).map(|i| i * n / count).collect();
        self.rows(&rows, &format!("{count} of them"))
    }

    fn rows(&self, rows: &[usize], part: &str) -> Result<Self> {
        Ok(Self {
            images: self.images.picked(rows)?,
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
            class_names: self.class_names.clone(),
            name: format!("{} ({part})", self.name),
            sha256: self.sha256.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn data(n: u8) -> Labelled {
        Labelled {
            images: Images::new((0..n).collect::<Vec<u8>>(), 1, 1, 1).unwrap(),
            labels: (0..u32::from(n)).collect(),
            class_names: (0..n).map(|i| i.to_string()).collect(),
            name: "d/train".into(),
            sha256: "x".into(),
        }
    }

    #[test]
    fn held_back_rows_are_spread_and_nobody_else_has_them() {
        let (rest, back) = data(20).held_back(4).unwrap();
        assert_eq!(back.labels, [2, 7, 12, 17]);
        assert_eq!(rest.len(), 16);
        assert!(rest.labels.iter().all(|label| !back.labels.contains(label)));
        for part in [&rest, &back] {
            let pixels: Vec<u32> = part.images.pixels.iter().map(|p| u32::from(*p)).collect();
            assert_eq!(pixels, part.labels, "pixels go with their labels");
        }
        assert_eq!((rest.name.as_str(), back.name.as_str()), ("d/train (without 4)", "d/train (4 held back)"));
        assert_eq!(data(20).held_back(18).unwrap().1.labels.len(), 18);
        assert_eq!(data(20).thinned(3).unwrap().labels, [0, 6, 13]);
        assert_eq!(data(20).thinned(30).unwrap().len(), 20);
        assert!(data(20).thinned(0).is_err());
        assert!(data(20).held_back(0).is_err() && data(20).held_back(19).is_err());
    }
}
