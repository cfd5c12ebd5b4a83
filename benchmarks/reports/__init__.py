"""What is printed of each benchmark's stored result, in Markdown: one module per benchmark.

A module has `table(result) -> str` and, where a page shows parts, further functions like it. They
know only the stored JSON and import nothing heavy, so that docs are written from them at once.
"""
