"""From files to `tf.data`: one format, one file (`from keras_cnns.data import voc`)."""
