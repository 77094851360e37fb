"""What several rooms' tests share: second opinions written from specifications."""
