"""The page at `/`: search, ways between sentences, a map of the index; on Gradio, without the internet."""
