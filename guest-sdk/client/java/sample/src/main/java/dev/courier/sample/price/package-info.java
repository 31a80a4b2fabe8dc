/** The price cache: each of its instances hears every change of a price. */
package dev.courier.sample.price;
