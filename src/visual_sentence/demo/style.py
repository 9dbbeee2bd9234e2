"""The demo's colours."""

INK, QUIET, ACCENT, PAPER, LINE = "#1c2430", "#6b7686", "#c2410c", "#fbfaf7", "#d9d5cc"
