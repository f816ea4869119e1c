// Packages of codecs that bring no types; what they export is looked at where they are loaded.
declare module 'kafkajs-snappy'
declare module 'lz4js'
declare module 'fzstd'
