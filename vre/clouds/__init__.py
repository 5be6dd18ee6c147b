"""One module a cloud, all with the same outline; `site` composes them."""
