"""The settings: `walvec.toml` and WALVEC_* variables, read, checked and shown.

In reading order:

    names        the names that light modules share with the settings
    table_name   a table's name as the settings spell it
    search_path  [source] search_path
    misread      addresses in which a part of the password becomes the host
    problems     what is wrong with the settings, in the operator's words
    values       the types that several sections share
    sections     the sections: keys, types, defaults and bounds
    file         walvec.toml on disk
    environment  WALVEC_* variables, which win over the file
    load         all of it together: `load_config`
    masking      what may be shown of a connection string or an address
    exposure     whether every user of the machine can read a password
"""
