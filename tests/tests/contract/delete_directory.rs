//! X6 and X7: directories, empty or swept; what fails stays, and is named.
