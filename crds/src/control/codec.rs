//! Messages as bytes, with small buffers.
//!
//! An operator holds a stream for each sidecar of the cluster, and most of them are quiet. The buffers
//! that gRPC sets aside for a stream are sized for traffic, eight kibibytes each way; here they begin
//! small, and grow with a message that needs it. The encoding itself is prost's.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What is set aside for a message, in bytes; a usual status fits.
const BUFFER: usize = 512;
/// So much is put together before it is handed on, in bytes, as gRPC does by itself.
const HANDED_ON: usize = 32 << 10;

/// Encodes and decodes as prost does.
#[derive(Clone, Copy, Debug)]
pub struct SmallBuffers<Encoded, Decoded>(PhantomData<(Encoded, Decoded)>);

impl<Encoded, Decoded> Default for SmallBuffers<Encoded, Decoded> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Encoded, Decoded> Codec for SmallBuffers<Encoded, Decoded>
where
    Encoded: Message + Send + 'static,
    Decoded: Message + Default + Send + 'static,
{
    type Encode = Encoded;
    type Decode = Decoded;
    type Encoder = <ProstCodec<Encoded, Decoded> as Codec>::Encoder;
    type Decoder = <ProstCodec<Encoded, Decoded> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Encoded, Decoded>::raw_encoder(BufferSettings::new(BUFFER, HANDED_ON))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Encoded, Decoded>::raw_decoder(BufferSettings::new(BUFFER, HANDED_ON))
    }
}
