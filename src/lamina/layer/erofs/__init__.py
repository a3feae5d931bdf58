"""EROFS images that hold a layer's metadata and point into its tar for the data.

    0       empty
    1024    superblock, 128 bytes
    2048    device table: one slot, the tar; its tag is the diff ID in hex
    2560    inodes, each with its extended attributes, the tail of its directory, its target or its chunk map
    …       blocks of directories, of long symbolic links, of the few files that cannot point into the tar

Blocks are 512 bytes, tar's own, so a regular file's content is an extent of the tar as it stands.
Facts from Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
"""
