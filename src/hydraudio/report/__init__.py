"""Building reports without a trainer: tables, charts, sound and pictures in self-contained HTML pages."""
