"""Pictures of surprise: what each character of a text cost in bits, as data, as a page, in a notebook.

    characters.py   bytes and their bits -> characters, words, lines, fields
    bins.py         bins of bits and their colours
    page.py         a page for a browser: one file, with page.html, page.css and page.js in it
    fragment.py     a piece of HTML for notebooks

Nothing here runs a model: whoever has figures, from the codec or from a float stack, hands them in.
"""
